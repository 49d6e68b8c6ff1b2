"""A plain page that says what is served here."""

from __future__ import annotations

from html import escape

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse

from mlxsrv import __version__

router = APIRouter(include_in_schema=False)

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mlxsrv</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; }}
  body {{ padding: 0 1rem; }}
  table {{ border-collapse: collapse; width: 100%; }}
  th, td {{ text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #8884; }}
  pre {{ background: #8882; padding: 1rem; border-radius: .5rem; overflow-x: auto; }}
</style>
</head>
<body>
<h1>mlxsrv {version}</h1>
<p>A local, OpenAI-compatible API. Point any OpenAI client at <code>{base}/v1</code>.</p>
<h2>Models</h2>
<table>
<tr><th>Name</th><th>Kind</th><th>State</th></tr>
{rows}
</table>
<h2>Try it</h2>
<pre>curl {base}/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -d '{{"messages": [{{"role": "user", "content": "Hello!"}}]}}'</pre>
<p><a href="/docs">The API's documentation</a> · <a href="/health">health</a> ·
<a href="/metrics">metrics</a></p>
</body>
</html>
"""


@router.get("/", response_class=HTMLResponse)
async def page(request: Request) -> HTMLResponse:
    models = request.app.state.services.registry.list()
    rows = "\n".join(
        f"<tr><td>{escape(m.name)}</td><td>{m.kind}</td><td>{m.state}</td></tr>" for m in models
    )
    base = escape(str(request.base_url).rstrip("/"))
    return HTMLResponse(PAGE.format(version=__version__, base=base, rows=rows))
