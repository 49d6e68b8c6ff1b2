"""Which of an embedding model's own prompts a request asks for. Pure.

Models are trained with some words before a query, or before a document; the checkpoint says
which. Nothing is put before a text that the checkpoint does not name.
"""

from __future__ import annotations

from collections.abc import Mapping

from mlxsrv.core.errors import InvalidRequest

# OpenAI has no such field; these are the words of Voyage, Jina and NVIDIA, and of Cohere. The
# names are those sentence-transformers looks for, in its order.
PURPOSES: Mapping[str, tuple[str, ...]] = {
    "query": ("query",),
    "search_query": ("query",),
    "document": ("document", "passage", "corpus"),
    "passage": ("document", "passage", "corpus"),
    "search_document": ("document", "passage", "corpus"),
}


def prompt_for(
    prompts: Mapping[str, str],
    default: str | None,
    *,
    input_type: str | None = None,
    prompt_name: str | None = None,
) -> str:
    """The text to put before each input, which may be empty.

    Raises InvalidRequest for a purpose or a name that this model does not know.
    """
    if prompt_name is not None:
        if prompt_name not in prompts:
            raise _unknown("prompt_name", prompt_name, prompts)
        return prompts[prompt_name]
    if input_type is None:
        return prompts[default] if default is not None else ""
    names = PURPOSES.get(input_type)
    if names is not None:
        return next((prompts[name] for name in names if name in prompts), "")
    wanted = input_type.casefold()
    found = next((text for name, text in prompts.items() if name.casefold() == wanted), None)
    if found is None:
        raise _unknown("input_type", input_type, ["query", "document", *prompts])
    return found


def _unknown(field: str, value: str, known: Mapping[str, str] | list[str]) -> InvalidRequest:
    names = ", ".join(dict.fromkeys(known)) or "none"
    return InvalidRequest(
        f"{field}: this model has no prompt named {value[:60]!r} (it has: {names})", param=field
    )
