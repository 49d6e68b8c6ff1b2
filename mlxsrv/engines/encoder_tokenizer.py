"""Texts, and pairs of texts, as rows of tokens for an encoder."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlxsrv.core.encoding import TokenRow
from mlxsrv.core.errors import LoadError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Ids = tuple[int, ...]


class EncoderTokenizer:
    """Any thread may call, several at once; long batches use all cores without the interpreter.

    Strings that look like special tokens are plain text in what callers send. In `trusted`
    texts, which are the model's own, they are the tokens.
    """

    def __init__(
        self, folder: Path, *, trusted: Collection[str] = (), lowercase: bool = False
    ) -> None:
        """`lowercase` texts are lowered first. Raises LoadError."""
        self._tokenizer = _load(folder)
        self._lowercase = lowercase
        before = {text: self._plain(text) for text in trusted}
        self._tokenizer.encode_special_tokens = True
        self._control = {text: ids for text, ids in before.items() if ids != self._plain(text)}
        self._opening, self._closing = self._frame()

    def _plain(self, text: str) -> Ids:
        return tuple(self._tokenizer.encode(self._cased(text), add_special_tokens=False).ids)

    def _cased(self, text: str) -> str:
        return text.lower() if self._lowercase else text

    def _frame(self) -> tuple[Ids, Ids]:
        """The special tokens that stand before and after a text."""
        encoding = self._tokenizer.encode("a")
        mask = encoding.special_tokens_mask
        before, after = _leading(mask), _leading(mask[::-1])
        return tuple(encoding.ids[:before]), tuple(encoding.ids[len(mask) - after :])

    @property
    def closing(self) -> int:
        """How many special tokens end each row."""
        return len(self._closing)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        ids: list[int] = self._tokenizer.encode(
            self._cased(text), add_special_tokens=add_special_tokens
        ).ids
        return ids

    def texts(
        self, texts: Sequence[str], *, prompt: str = "", pool_prompt: bool = True
    ) -> list[TokenRow]:
        """A row for each text, with `prompt` before it, which may be left out of the pooling."""
        unpooled = 0 if pool_prompt or not prompt else len(self._opening) + len(self.own(prompt))
        if prompt in self._control:
            bare = self._batch([self._cased(text) for text in texts], special=False)
            framed = (self._framed(self._control[prompt] + tuple(one.ids)) for one in bare)
            return [TokenRow(ids, unpooled=unpooled) for ids in framed]
        encodings = self._batch([self._cased(prompt + text) for text in texts], special=True)
        return [TokenRow(tuple(one.ids), unpooled=unpooled) for one in encodings]

    def ids(self, given: Ids, *, prompt: str = "", pool_prompt: bool = True) -> TokenRow:
        """A row for a text that the caller tokenized, with or without its special tokens."""
        before = self.own(prompt) if prompt else ()
        unpooled = 0 if pool_prompt or not prompt else len(self._opening) + len(before)
        return TokenRow(self._framed(before + self._unframed(given)), unpooled=unpooled)

    def own(self, trusted: str) -> Ids:
        """The tokens of one of the model's own texts, without what stands around a text."""
        return self._control.get(trusted) or self._plain(trusted)

    def pairs(self, first: str, seconds: Sequence[str]) -> list[TokenRow]:
        """A row for `first` with each of `seconds`, as a cross-encoder reads them."""
        first = self._cased(first)
        pairs = [(first, self._cased(second)) for second in seconds]
        return [_pair(encoding) for encoding in self._batch(pairs, special=True)]

    def _batch(self, inputs: Sequence[Any], *, special: bool) -> Iterable[Encoding]:
        if len(inputs) == 1:  # no hand-over to other threads
            first, second = inputs[0] if isinstance(inputs[0], tuple) else (inputs[0], None)
            return [self._tokenizer.encode(first, second, add_special_tokens=special)]
        return self._tokenizer.encode_batch_fast(list(inputs), add_special_tokens=special)

    def _framed(self, ids: Ids) -> Ids:
        return self._opening + ids + self._closing

    def _unframed(self, ids: Ids) -> Ids:
        before, after = len(self._opening), len(self._closing)
        whole = len(ids) >= before + after
        if whole and ids[:before] == self._opening and ids[len(ids) - after :] == self._closing:
            return ids[before : len(ids) - after]
        return ids


def shorten(row: TokenRow, length: int, closing: int) -> TokenRow:
    """The row cut to `length` tokens, of which its last `closing` ones stay."""
    if len(row.ids) <= length:
        return row
    return TokenRow(
        _cut(row.ids, length, closing),
        _cut(row.types, length, closing),
        min(row.unpooled, length - 1),
    )


def _cut(values: Ids, length: int, closing: int) -> Ids:
    if not values:
        return ()
    return values[: max(0, length - closing)] + values[len(values) - closing :]


def _pair(encoding: Encoding) -> TokenRow:
    types = tuple(encoding.type_ids)
    return TokenRow(tuple(encoding.ids), types if any(types) else ())


def _leading(mask: Sequence[int]) -> int:
    """How many places are marked before the first that is not."""
    return next((place for place, special in enumerate(mask) if not special), 0)


def _load(folder: Path) -> Tokenizer:
    """Through transformers, which knows what older files leave unsaid (such as lower case)."""
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (ValueError, KeyError, TypeError, OSError, ImportError) as error:
        raise LoadError(f"the tokenizer of {folder.name} can't be loaded: {error}") from error
    tokenizer: Tokenizer | None = getattr(loaded, "backend_tokenizer", None)
    if tokenizer is None:
        raise LoadError(f"{folder.name} has no fast tokenizer: it needs a tokenizer.json")
    if len(tokenizer.get_vocab()) == len(tokenizer.get_added_tokens_decoder()):
        # Without a vocabulary's file some tokenizers are made of their special tokens alone.
        raise LoadError(f"{folder.name} has no tokenizer: it needs a tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
