"""Labels by a language model over any OpenAI-compatible endpoint: Ollama, llama.cpp, vLLM, LM Studio, the cloud."""

from greenrfm.distill.llm.endpoint import OPENAI_KEY, OWN_KEY, Endpoint, key_for
from greenrfm.distill.llm.forms import Form
from greenrfm.distill.llm.instructions import reads_like_instructions
from greenrfm.distill.llm.labeler import CONTEXT_TOKENS, LlmLabeler
from greenrfm.distill.llm.prompt import Prompt, packaged_prompt

PROMPT_VERSION = packaged_prompt().version

__all__ = [
    "CONTEXT_TOKENS",
    "OPENAI_KEY",
    "OWN_KEY",
    "PROMPT_VERSION",
    "Endpoint",
    "Form",
    "LlmLabeler",
    "Prompt",
    "key_for",
    "packaged_prompt",
    "reads_like_instructions",
]
