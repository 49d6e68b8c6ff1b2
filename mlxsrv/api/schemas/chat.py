"""`POST /v1/chat/completions`: the request."""

from __future__ import annotations

import contextlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mlxsrv.api.schemas import unserved
from mlxsrv.api.schemas.fields import Body, Flag, Integer, Text
from mlxsrv.api.schemas.generation import GenerationRequest
from mlxsrv.core.errors import InvalidRequest

MEDIA_PARTS = frozenset({"image_url", "input_audio", "file", "input_image", "video_url"})

TEMPLATE_ARGUMENTS = frozenset(
    {
        "self",
        "conversation",
        "messages",
        "tools",
        "documents",
        "chat_template",
        "add_generation_prompt",
        "continue_final_message",
        "tokenize",
        "sanitize_control_tokens",
        "padding",
        "truncation",
        "max_length",
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
        "tokenizer_kwargs",
        "kwargs",
    }
)
"""What the tokenizer's own call takes; a caller that set them would change how it works."""


class ContentPart(Body):
    """One part of a message; parts that are not text are told apart from broken ones later."""

    type: Text
    text: Text | None = None
    refusal: Text | None = None

    def plain(self, path: str) -> str:
        """Its text. Raises InvalidRequest and Unsupported that name the part."""
        if self.type in MEDIA_PARTS:
            raise unserved.refuse(path, f"content of type {self.type}")
        texts = {"text": self.text, "input_text": self.text, "refusal": self.refusal}
        if self.type not in texts:
            reason = "should be 'text'"
            raise InvalidRequest(f"{path}.type: {reason}", param=f"{path}.type")
        text = texts[self.type]
        if text is None:
            field = "refusal" if self.type == "refusal" else "text"
            raise InvalidRequest(f"{path}.{field}: is required", param=f"{path}.{field}")
        return text


class CalledFunction(Body):
    name: Text
    arguments: Text | dict[str, Any] | None = None


class ToolCall(Body):
    id: Text | None = None
    type: Literal["function"] | None = None
    function: CalledFunction

    def for_template(self) -> dict[str, Any]:
        """Templates print the arguments themselves, so they want the object, not its text."""
        arguments: Any = self.function.arguments
        if isinstance(arguments, str):
            # What is no JSON was written so by the model, which gets its own words back.
            with contextlib.suppress(ValueError, RecursionError):
                arguments = json.loads(arguments)
        function = {"name": self.function.name, "arguments": {} if arguments is None else arguments}
        return {"id": self.id or "", "type": "function", "function": function}


class Message(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[ContentPart], Field(fail_fast=True)] | None = None
    name: Text | None = None
    tool_call_id: Text | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True)] | None = None
    reasoning_content: Text | None = None
    reasoning: Text | None = None

    def plain(self, path: str) -> str:
        """The text of the content. Raises InvalidRequest, Unsupported."""
        if isinstance(self.content, str):
            return self.content
        if self.content is None:
            if self.role == "assistant" and (self.tool_calls or self.thought):
                return ""
            raise InvalidRequest(f"{path}.content: is required", param=f"{path}.content")
        if not self.content:
            raise InvalidRequest(f"{path}.content: has no parts", param=f"{path}.content")
        parts = enumerate(self.content)
        return "".join(part.plain(f"{path}.content.{place}") for place, part in parts)

    @property
    def thought(self) -> str | None:
        return self.reasoning_content if self.reasoning_content is not None else self.reasoning

    def for_template(self, path: str) -> dict[str, Any]:
        """The message as chat templates expect it. Raises InvalidRequest, Unsupported.

        `developer` is OpenAI's later name for `system`; few templates know it.
        """
        role = "system" if self.role == "developer" else self.role
        message: dict[str, Any] = {"role": role, "content": self.plain(path)}
        if self.name is not None:
            message["name"] = self.name
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        if self.tool_calls:
            message["tool_calls"] = [call.for_template() for call in self.tool_calls]
        if self.thought is not None:
            message["reasoning_content"] = self.thought
        return message


Messages = Annotated[list[Message], Field(min_length=1, fail_fast=True)]


def for_template(messages: list[Message]) -> list[dict[str, Any]]:
    """Raises InvalidRequest, Unsupported that name the part at fault."""
    return [message.for_template(f"messages.{place}") for place, message in enumerate(messages)]


class ChatRequest(GenerationRequest):
    messages: Messages
    max_tokens: Annotated[Integer, Field(ge=1)] | None = None
    logprobs: Flag | None = None
    top_logprobs: Annotated[Integer, Field(ge=0, le=20)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="variables for the model's chat template"
    )

    tools: Any = Field(None, description="not served yet")
    tool_choice: Any = Field(None, description="`none` or `auto`")
    functions: Any = Field(None, description="not served yet")
    function_call: Any = Field(None, description="`none` or `auto`")
    modalities: Any = Field(None, description="only `text` is served yet")
    audio: Any = Field(None, description="not served yet")
    prediction: Any = Field(None, description="not served yet")
    web_search_options: Any = Field(None, description="not served")

    @model_validator(mode="after")
    def _check_chat(self) -> Self:
        unserved.refuse_items("tools", self.tools)
        unserved.refuse_items("functions", self.functions)
        unserved.refuse_forced_tool("tool_choice", self.tool_choice)
        unserved.refuse_forced_tool("function_call", self.function_call)
        unserved.refuse_modalities("modalities", self.modalities)
        for field in ("audio", "prediction", "web_search_options"):
            unserved.refuse_if_asked(field, getattr(self, field))
        for_template(self.messages)
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest(
                "top_logprobs: is only allowed when `logprobs` is true", param="top_logprobs"
            )
        for name in self.chat_template_kwargs or {}:
            if name in TEMPLATE_ARGUMENTS:
                path = f"chat_template_kwargs.{name}"
                raise InvalidRequest(f"{path}: can't be set by a request", param=path)
        return self

    @property
    def template_variables(self) -> dict[str, Any]:
        """What the chat template is given besides the messages."""
        given = dict(self.chat_template_kwargs or {})
        if self.reasoning_effort is not None:
            given.setdefault("reasoning_effort", self.reasoning_effort)
            if self.reasoning_effort == "none":
                given.setdefault("enable_thinking", False)
        return given
