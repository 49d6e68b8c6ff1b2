"""A checkpoint's tokenizer and chat template."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mlxsrv.core.errors import InvalidRequest, LoadError, Unsupported
from mlxsrv.core.text import TextRequest
from mlxsrv.engines.detokenize import Detokenizer, WindowDetokenizer
from mlxsrv.engines.generation import TokenDecoder

REASONING_TAGS = (("<think>", "</think>"), ("<|START_THINKING|>", "<|END_THINKING|>"))
# Prefix, suffix and middle tokens of the families that were trained to fill in the middle.
FILL_IN_THE_MIDDLE = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<|fim▁begin|>", "<|fim▁hole|>", "<|fim▁end|>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
)
_BYTE_TOKEN = re.compile(r"^<0x([0-9A-Fa-f]{2})>$")


def byte_of_character() -> dict[str, int]:
    """GPT-2's map of printable characters to bytes (the inverse of `bytes_to_unicode`)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + place): byte for place, byte in enumerate(others)}


class TextTokenizer:
    """Encodes prompts and chats, and makes a decoder per generated sequence."""

    def __init__(self, folder: Path, chat_template: str | None = None) -> None:
        """Raises LoadError. `chat_template` (a Jinja text) takes the place of the folder's."""
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True
            )
        except (ValueError, KeyError, TypeError, OSError, ImportError) as error:
            raise LoadError(f"the tokenizer of {folder.name} can't be loaded: {error}") from error
        if chat_template is not None:
            self._tokenizer.chat_template = chat_template
        self._pieces: dict[int, bytes] = {}
        self._marker, self._strips, self._bytewise = self._decoder_kind()

    def __len__(self) -> int:
        return len(self._tokenizer)

    # Encoding

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return ids

    @property
    def has_chat_template(self) -> bool:
        return bool(self._tokenizer.chat_template)

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], *, template_kwargs: Mapping[str, Any]
    ) -> list[int]:
        """Renders and encodes a conversation up to where the assistant's answer begins.

        Special-token strings in the messages are encoded as plain text. Raises
        InvalidRequest when there is no template, or when it refuses the messages.
        """
        if not self.has_chat_template:
            raise InvalidRequest(
                "This model has no chat template, so it can't chat. Set `chat_template` for it "
                "in the configuration, or use /v1/completions.",
                param="messages",
                code="chat_template",
            )
        from jinja2 import TemplateError

        try:
            ids: list[int] = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
                sanitize_control_tokens=True,
                **template_kwargs,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise InvalidRequest(
                f"The model's chat template refuses these messages: {error}", param="messages"
            ) from error
        return ids

    def encode_infill(self, prefix: str, suffix: str) -> list[int]:
        """The prompt that asks for what stands between. Raises Unsupported."""
        for names in FILL_IN_THE_MIDDLE:
            if all(name in self._added for name in names):
                before, after, middle = (self._added[name] for name in names)
                return [
                    before,
                    *self.encode(prefix, add_special_tokens=False),
                    after,
                    *self.encode(suffix, add_special_tokens=False),
                    middle,
                ]
        raise Unsupported(
            "This model has no fill-in-the-middle tokens, so it can't take a suffix",
            param="suffix",
        )

    # Decoding

    def decoder(self, request: TextRequest) -> TokenDecoder:
        """A fresh decoder for one sequence of `request`."""
        if not self._bytewise:
            return WindowDetokenizer(self.decode, self._hidden)
        strip = self._strips and request.starts_text
        return Detokenizer(self.piece, self._hidden, strip_first_space=strip)

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        return text

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; a token may end inside a character."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._piece(token)
        return known

    def _piece(self, token: int) -> bytes:
        text = self._tokenizer.convert_ids_to_tokens(token)
        if text is None:
            return b""
        if token in self._added.values() or not self._bytewise:
            return str(text).encode()
        if self._marker is None:
            try:
                return bytes(_BYTES[character] for character in text)
            except KeyError:
                return str(text).encode()
        byte = _BYTE_TOKEN.match(text)
        if byte is not None:
            return bytes.fromhex(byte.group(1))
        return str(text).replace(self._marker, " ").encode()

    def _decoder_kind(self) -> tuple[str | None, bool, bool]:
        """(space marker, strips the first space, tokens have bytes) of the tokenizer's decoder.

        Byte-level tokenizers have no marker; SentencePiece ones write a space as U+2581.
        """
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None or backend.decoder is None:
            return None, False, False
        state = json.loads(backend.decoder.__getstate__())
        parts = state["decoders"] if state["type"] == "Sequence" else [state]
        by_type = {part["type"]: part for part in parts}
        if set(by_type) == {"ByteLevel"}:
            return None, False, True
        if "Metaspace" in by_type:
            part = by_type["Metaspace"]
            return part["replacement"], part.get("prepend_scheme") != "never", True
        if "ByteFallback" in by_type and set(by_type) <= {
            "Replace",
            "ByteFallback",
            "Fuse",
            "Strip",
        }:
            return "\u2581", "Strip" in by_type, True
        return None, False, False

    @cached_property
    def _added(self) -> dict[str, int]:
        return {token.content: id_ for id_, token in self._tokenizer.added_tokens_decoder.items()}

    @cached_property
    def _hidden(self) -> frozenset[int]:
        """Special tokens, but for those that mark reasoning: the splitter needs to see them."""
        tags = {tag for pair in REASONING_TAGS for tag in pair}
        return frozenset(
            id_
            for id_, token in self._tokenizer.added_tokens_decoder.items()
            if token.special and token.content not in tags
        )

    # What the checkpoint's files say

    @cached_property
    def end_ids(self) -> frozenset[int]:
        end = self._tokenizer.eos_token_id
        return frozenset() if end is None else frozenset({end})

    @cached_property
    def reasoning_tags(self) -> tuple[str, str] | None:
        """The tags this model thinks between, if it is one that thinks."""
        template = self._tokenizer.chat_template
        text = template if isinstance(template, str) else json.dumps(template or "")
        for opening, closing in REASONING_TAGS:
            if closing in text and (closing in self._added or opening in text):
                return opening, closing
        return None

    def opens_reasoning(self, ids: Sequence[int]) -> bool:
        """Whether a prompt ends inside the reasoning it has opened itself."""
        if self.reasoning_tags is None:
            return False
        opening, closing = self.reasoning_tags
        end = self.decode(ids[-16:])
        return end.rfind(opening) > end.rfind(closing)


_BYTES = byte_of_character()
