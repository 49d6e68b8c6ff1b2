from __future__ import annotations

import pytest

from mlxsrv.core.errors import InvalidRequest
from mlxsrv.engines.prompts import prompt_for

E5 = {"query": "query: ", "passage": "passage: "}
GEMMA = {"query": "task: search | query: ", "document": "title: none | text: ", "Clustering": "c: "}


@pytest.mark.parametrize("input_type", ["query", "search_query"])
def test_a_query_gets_the_models_own_prompt(input_type: str) -> None:
    assert prompt_for(E5, None, input_type=input_type) == "query: "


@pytest.mark.parametrize("input_type", ["document", "search_document", "passage"])
def test_a_document_gets_the_prompt_under_any_of_its_names(input_type: str) -> None:
    assert prompt_for(E5, None, input_type=input_type) == "passage: "
    assert prompt_for(GEMMA, None, input_type=input_type) == "title: none | text: "
    assert prompt_for({"query": "q: "}, "query", input_type=input_type) == ""


def test_nothing_is_guessed_for_a_model_without_prompts() -> None:
    assert prompt_for({}, None) == ""
    assert prompt_for({}, None, input_type="query") == ""
    assert prompt_for({}, None, input_type="search_document") == ""


def test_a_request_that_says_nothing_gets_the_default() -> None:
    assert prompt_for(E5, None) == ""
    assert prompt_for(E5, "passage") == "passage: "
    assert prompt_for(E5, "passage", input_type="query") == "query: "


def test_other_purposes_are_those_the_model_knows() -> None:
    assert prompt_for(GEMMA, None, input_type="clustering") == "c: "
    assert prompt_for(GEMMA, None, prompt_name="Clustering") == "c: "
    with pytest.raises(InvalidRequest, match=r"'classification'.*Clustering") as caught:
        prompt_for(GEMMA, None, input_type="classification")
    assert caught.value.param == "input_type"
    with pytest.raises(InvalidRequest, match="it has: none") as caught:
        prompt_for({}, None, prompt_name="query")
    assert caught.value.param == "prompt_name"
