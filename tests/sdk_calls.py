"""Calls said twice: to a provider's own SDK, as its documentation says them, and to Veyra.

What an SDK sends for the left side, our client half must send for the right side, field by field. Where the two differ on
purpose, the row (or `ALWAYS`, for all rows of a dialect) names the field and the reason.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from veyra.types import Media, Message, Opaque, Reasoning, Request, Text, Tool, ToolCall, ToolResult
from veyra.wire.base import Flags

PNG = b"\x89PNG\r\n\x1a\n"
PDF = b"%PDF-1.7\n"
WAV = b"RIFF$\0\0\0WAVE"
PNG64, PDF64, WAV64 = (b64encode(data).decode() for data in (PNG, PDF, WAV))
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Where."}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = Tool(name="weather", description="Tell the weather.", parameters=SCHEMA)
CLOCK = Tool(name="clock", parameters={"type": "object", "properties": {}})
ARGUMENTS = '{"city":"Rome"}'
CALL = ToolCall("call_1", "weather", {"city": "Rome"}, ARGUMENTS)
CALL_2 = ToolCall("call_2", "clock", {}, "{}")
HI = {"role": "user", "content": "Hi"}
ASKED = (Message("user", "Hi"),)
PICTURE = Media(kind="image", media_type="image/png", data=PNG)


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        name: what it is about.
        theirs: what the SDK's method is given.
        ours: the `Request`, without the model.
        flags: how our client half is told to speak to that provider.
        differs: fields (top level) that are not the same, and why.
    """

    name: str
    theirs: Mapping[str, Any]
    ours: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)
    differs: Mapping[str, str] = field(default_factory=dict)

    def request(self, model: str) -> Request:
        said: dict[str, Any] = {"messages": ASKED, **self.ours}
        return Request(prompt="", model=model, **said)

    def __str__(self) -> str:
        return self.name.replace(" ", "_")


FLAGS = {
    "openai_chat": Flags(provider="openai", max_tokens_field="max_completion_tokens", prompt_cache_options=True),
    "openai_responses": Flags(provider="openai", prompt_cache_options=True),
    "anthropic": Flags(provider="anthropic"),
    "ollama": Flags(provider="ollama"),
    "gemini": Flags(provider="gemini"),
}
MODELS = {
    "openai_chat": "gpt-6-sol",
    "openai_responses": "gpt-6-sol",
    "anthropic": "claude-haiku-5-5",
    "ollama": "llama3.2",
    "gemini": "gemini-3-pro",
}

ALWAYS: Mapping[str, Mapping[str, str]] = {
    "openai_chat": {},
    "openai_responses": {"store": "the API keeps answers unless told otherwise; Veyra tells it otherwise"},
    "anthropic": {},
    "ollama": {
        "truncate": "the server cuts a long prompt silently; Veyra asks for an error instead",
        "tools": "the SDK sends an empty list where there are no tools",
    },
    "gemini": {},
}

# ----------------------------------------------------------------------------------- OpenAI Chat Completions


def openai_tool(tool: Tool, **more: Any) -> dict[str, Any]:
    description = {"description": tool.description} if tool.description else {}
    return {"type": "function", "function": {"name": tool.name, **description, "parameters": tool.parameters, **more}}


def openai_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.raw}}


CHAT = [
    Call("a question", {"messages": [HI]}),
    Call(
        "system text",
        {"messages": [{"role": "system", "content": "Be brief."}, HI]},
        {"system": "Be brief."},
    ),
    Call(
        "system text as a developer's",
        {"messages": [{"role": "developer", "content": "Be brief."}, HI]},
        {"system": "Be brief."},
        {"system_role": "developer"},
    ),
    Call(
        "a conversation",
        {"messages": [HI, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "And now?"}]},
        {"messages": (*ASKED, Message("assistant", "Hello."), Message("user", "And now?"))},
    ),
    Call("an output limit", {"messages": [HI], "max_completion_tokens": 50}, {"max_tokens": 50}),
    Call(
        "the old output limit",
        {"messages": [HI], "max_tokens": 50},
        {"max_tokens": 50},
        {"max_tokens_field": "max_tokens"},
    ),
    Call("sampling", {"messages": [HI], "temperature": 0.2, "top_p": 0.9}, {"temperature": 0.2, "top_p": 0.9}),
    Call("stop sequences", {"messages": [HI], "stop": ["END", "\n\n"]}, {"stop": ("END", "\n\n")}),
    Call("a seed", {"messages": [HI], "seed": 7}, {"seed": 7}),
    Call("an effort", {"messages": [HI], "reasoning_effort": "low"}, {"reasoning": "low"}),
    Call("metadata", {"messages": [HI], "metadata": {"team": "a"}}, {"metadata": {"team": "a"}}),
    Call(
        "a stream with usage",
        {"messages": [HI], "stream": True, "stream_options": {"include_usage": True}},
        {"stream": True},
    ),
    Call(
        "a stream",
        {"messages": [HI], "stream": True},
        {"stream": True},
        differs={"stream_options": "a stream tells no usage unless it is asked for, and Veyra records usage"},
    ),
    Call(
        "a stream where usage cannot be asked for",
        {"messages": [HI], "stream": True},
        {"stream": True},
        {"stream_options": False},
    ),
    Call("a tool", {"messages": [HI], "tools": [openai_tool(WEATHER)]}, {"tools": (WEATHER,)}),
    Call(
        "a strict tool",
        {"messages": [HI], "tools": [openai_tool(WEATHER, strict=True)]},
        {"tools": (Tool(name="weather", description=WEATHER.description, parameters=SCHEMA, strict=True),)},
    ),
    Call(
        "a tool that must be called",
        {"messages": [HI], "tools": [openai_tool(WEATHER), openai_tool(CLOCK)], "tool_choice": "required"},
        {"tools": (WEATHER, CLOCK), "tool_choice": "required"},
    ),
    Call(
        "a tool chosen by name",
        {
            "messages": [HI],
            "tools": [openai_tool(WEATHER)],
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
        },
        {"tools": (WEATHER,), "tool_choice": "weather"},
    ),
    Call(
        "no tool now",
        {"messages": [HI], "tools": [openai_tool(WEATHER)], "tool_choice": "none"},
        {"tools": (WEATHER,), "tool_choice": "none"},
    ),
    Call(
        "results of parallel calls",
        {
            "messages": [
                HI,
                {"role": "assistant", "content": None, "tool_calls": [openai_call(CALL), openai_call(CALL_2)]},
                {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
                {"role": "tool", "tool_call_id": "call_2", "content": "12:00"},
            ],
            "tools": [openai_tool(WEATHER)],
        },
        {
            "messages": (
                *ASKED,
                Message("assistant", (CALL, CALL_2)),
                Message("tool", (ToolResult("call_1", "sunny"), ToolResult("call_2", "12:00"))),
            ),
            "tools": (WEATHER,),
        },
    ),
    Call(
        "a turn with text and a call",
        {
            "messages": [
                HI,
                {"role": "assistant", "content": "I look.", "tool_calls": [openai_call(CALL)]},
                {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
            ],
        },
        {
            "messages": (
                *ASKED,
                Message("assistant", (Text("I look."), CALL)),
                Message("tool", (ToolResult("call_1", "sunny"),)),
            )
        },
    ),
    Call(
        "an image as data",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is it?"},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG64}"}},
                    ],
                }
            ]
        },
        {"messages": (Message("user", (Text("What is it?"), PICTURE)),)},
    ),
    Call(
        "an image as a URL",
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.invalid/a.png"}}]}
            ]
        },
        {"messages": (Message("user", (Media(kind="image", url="https://x.invalid/a.png"),)),)},
    ),
    Call(
        "sound",
        {
            "messages": [
                {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": WAV64, "format": "wav"}}]}
            ]
        },
        {"messages": (Message("user", (Media(kind="audio", media_type="audio/wav", data=WAV),)),)},
    ),
    Call(
        "a document",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "file",
                            "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF64}"},
                        }
                    ],
                }
            ]
        },
        {
            "messages": (
                Message("user", (Media(kind="document", media_type="application/pdf", data=PDF, name="a.pdf"),)),
            )
        },
    ),
    Call(
        "structured output",
        {
            "messages": [HI],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
            },
        },
        {"output": SCHEMA},
    ),
    Call(
        "a cached prompt",
        {"messages": [HI], "prompt_cache_key": "k", "prompt_cache_options": {"ttl": "30m"}},
        {"cache": {"prompt_cache_key": "k", "prompt_cache_options": {"ttl": "30m"}}},
    ),
    Call(
        "what only OpenAI knows",
        {"messages": [HI], "logprobs": True, "top_logprobs": 3, "service_tier": "flex", "parallel_tool_calls": False},
        {"extra": {"logprobs": True, "top_logprobs": 3, "service_tier": "flex", "parallel_tool_calls": False}},
    ),
    Call(
        "more than plain letters",
        {"messages": [{"role": "user", "content": '☀ "\\\n\u2028 𝄞'}]},
        {"messages": (Message("user", '☀ "\\\n\u2028 𝄞'),)},
    ),
]

# ------------------------------------------------------------------------------------------ OpenAI Responses


def flat_tool(tool: Tool, *, strict: bool = False) -> dict[str, Any]:
    description = {"description": tool.description} if tool.description else {}
    return {"type": "function", "name": tool.name, **description, "parameters": tool.parameters, "strict": strict}


SEALED = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "zzz"}
STRING = {"input": "the SDK passes a string on; Veyra always sends the items it stands for"}
RESPONSES = [
    Call("a question", {"input": "Hi"}, differs=STRING),
    Call("a question as an item", {"input": [HI]}),
    Call("system text", {"input": [HI], "instructions": "Be brief."}, {"system": "Be brief."}),
    Call("an output limit", {"input": [HI], "max_output_tokens": 50}, {"max_tokens": 50}),
    Call("sampling", {"input": [HI], "temperature": 0.2, "top_p": 0.9}, {"temperature": 0.2, "top_p": 0.9}),
    Call("metadata", {"input": [HI], "metadata": {"team": "a"}}, {"metadata": {"team": "a"}}),
    Call("a stream", {"input": [HI], "stream": True}, {"stream": True}),
    Call(
        "an effort",
        {"input": [HI], "reasoning": {"effort": "high"}, "include": ["reasoning.encrypted_content"]},
        {"reasoning": "high"},
    ),
    Call("no reasoning", {"input": [HI], "reasoning": {"effort": "none"}}, {"reasoning": "none"}),
    Call(
        "a conversation",
        {"input": [HI, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "And now?"}]},
        {"messages": (*ASKED, Message("assistant", "Hello."), Message("user", "And now?"))},
    ),
    Call("a tool", {"input": [HI], "tools": [flat_tool(WEATHER)]}, {"tools": (WEATHER,)}),
    Call(
        "a strict tool, chosen by name",
        {
            "input": [HI],
            "tools": [flat_tool(WEATHER, strict=True)],
            "tool_choice": {"type": "function", "name": "weather"},
        },
        {
            "tools": (Tool(name="weather", description=WEATHER.description, parameters=SCHEMA, strict=True),),
            "tool_choice": "weather",
        },
    ),
    Call(
        "a tool that must be called",
        {"input": [HI], "tools": [flat_tool(CLOCK)], "tool_choice": "required"},
        {"tools": (CLOCK,), "tool_choice": "required"},
    ),
    Call(
        "results of parallel calls",
        {
            "input": [
                HI,
                {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": ARGUMENTS},
                {"type": "function_call", "call_id": "call_2", "name": "clock", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
                {"type": "function_call_output", "call_id": "call_2", "output": "12:00"},
            ]
        },
        {
            "messages": (
                *ASKED,
                Message("assistant", (CALL, CALL_2)),
                Message("tool", (ToolResult("call_1", "sunny"), ToolResult("call_2", "12:00"))),
            )
        },
    ),
    Call(
        "reasoning sent back",
        {"input": [HI, SEALED, {"role": "user", "content": "And now?"}]},
        {
            "messages": (
                *ASKED,
                Message(
                    "assistant",
                    "",
                    native=(
                        Opaque(
                            "openai_responses",
                            b'{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"zzz"}',
                        ),
                    ),
                ),
                Message("user", "And now?"),
            )
        },
    ),
    Call(
        "an image",
        {
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What is it?"},
                        {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{PNG64}"},
                    ],
                }
            ]
        },
        {"messages": (Message("user", (Text("What is it?"), PICTURE)),)},
    ),
    Call(
        "documents",
        {
            "input": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "input_file",
                            "filename": "a.pdf",
                            "file_data": f"data:application/pdf;base64,{PDF64}",
                        },
                        {"type": "input_file", "file_url": "https://x.invalid/a.pdf"},
                        {"type": "input_file", "file_id": "file_1"},
                    ],
                }
            ]
        },
        {
            "messages": (
                Message(
                    "user",
                    (
                        Media(kind="document", media_type="application/pdf", data=PDF, name="a.pdf"),
                        Media(kind="document", url="https://x.invalid/a.pdf"),
                        Media(kind="document", file_id="file_1"),
                    ),
                ),
            )
        },
    ),
    Call(
        "structured output",
        {
            "input": [HI],
            "text": {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}},
        },
        {"output": SCHEMA},
    ),
    Call(
        "what only OpenAI knows",
        {
            "input": [HI],
            "store": True,
            "previous_response_id": "resp_0",
            "text": {"verbosity": "low"},
            "truncation": "auto",
        },
        {
            "extra": {
                "store": True,
                "previous_response_id": "resp_0",
                "text": {"verbosity": "low"},
                "truncation": "auto",
            }
        },
    ),
]

# ----------------------------------------------------------------------------------------- Anthropic Messages


def anthropic_tool(tool: Tool, **more: Any) -> dict[str, Any]:
    description = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **description, "input_schema": tool.parameters, **more}


def anthropic_call(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}


SAMPLING = {"extra_body": {"temperature": 0.2, "top_p": 0.9}}
MESSAGES = [
    Call("a question", {"max_tokens": 50, "messages": [HI]}, {"max_tokens": 50}),
    Call("no limit given", {"max_tokens": 4096, "messages": [HI]}),
    Call(
        "system text",
        {"max_tokens": 50, "messages": [HI], "system": "Be brief."},
        {"max_tokens": 50, "system": "Be brief."},
    ),
    Call(
        "two system texts",
        {
            "max_tokens": 50,
            "messages": [HI],
            "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
        },
        {"max_tokens": 50, "system": "Be brief.", "messages": (Message("system", "Be kind."), *ASKED)},
    ),
    Call(
        "a conversation",
        {
            "max_tokens": 50,
            "messages": [HI, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "And now?"}],
        },
        {"max_tokens": 50, "messages": (*ASKED, Message("assistant", "Hello."), Message("user", "And now?"))},
    ),
    Call(
        "sampling, of the older version",
        {"max_tokens": 50, "messages": [HI], **SAMPLING},
        {"max_tokens": 50, "temperature": 0.2, "top_p": 0.9},
    ),
    Call(
        "stop sequences",
        {"max_tokens": 50, "messages": [HI], "stop_sequences": ["END"]},
        {"max_tokens": 50, "stop": ("END",)},
    ),
    Call(
        "whose call it is",
        {"max_tokens": 50, "messages": [HI], "metadata": {"user_id": "u"}},
        {"max_tokens": 50, "metadata": {"user_id": "u"}},
    ),
    Call("a stream", {"max_tokens": 50, "messages": [HI], "stream": True}, {"max_tokens": 50, "stream": True}),
    Call(
        "a budget for thinking",
        {"max_tokens": 5000, "messages": [HI], "thinking": {"type": "enabled", "budget_tokens": 2048}},
        {"max_tokens": 5000, "reasoning": 2048},
    ),
    Call(
        "an effort",
        {"max_tokens": 50, "messages": [HI], "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        {"max_tokens": 50, "reasoning": "high"},
    ),
    Call(
        "no thinking",
        {"max_tokens": 50, "messages": [HI], "thinking": {"type": "disabled"}},
        {"max_tokens": 50, "reasoning": "none"},
    ),
    Call(
        "a tool",
        {"max_tokens": 50, "messages": [HI], "tools": [anthropic_tool(WEATHER)]},
        {"max_tokens": 50, "tools": (WEATHER,)},
    ),
    Call(
        "a strict tool, chosen by name",
        {
            "max_tokens": 50,
            "messages": [HI],
            "tools": [anthropic_tool(WEATHER, strict=True)],
            "tool_choice": {"type": "tool", "name": "weather"},
        },
        {
            "max_tokens": 50,
            "tools": (Tool(name="weather", description=WEATHER.description, parameters=SCHEMA, strict=True),),
            "tool_choice": "weather",
        },
    ),
    Call(
        "a tool that must be called",
        {
            "max_tokens": 50,
            "messages": [HI],
            "tools": [anthropic_tool(WEATHER), anthropic_tool(CLOCK)],
            "tool_choice": {"type": "any"},
        },
        {"max_tokens": 50, "tools": (WEATHER, CLOCK), "tool_choice": "required"},
    ),
    Call(
        "no tool now",
        {"max_tokens": 50, "messages": [HI], "tools": [anthropic_tool(WEATHER)], "tool_choice": {"type": "none"}},
        {"max_tokens": 50, "tools": (WEATHER,), "tool_choice": "none"},
    ),
    Call(
        "results of parallel calls, one of them an error",
        {
            "max_tokens": 50,
            "messages": [
                HI,
                {
                    "role": "assistant",
                    "content": [{"type": "text", "text": "I look."}, anthropic_call(CALL), anthropic_call(CALL_2)],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"},
                        {"type": "tool_result", "tool_use_id": "call_2", "content": "no clock", "is_error": True},
                    ],
                },
            ],
        },
        {
            "max_tokens": 50,
            "messages": (
                *ASKED,
                Message("assistant", (Text("I look."), CALL, CALL_2)),
                Message("tool", (ToolResult("call_1", "sunny"),)),
                Message("tool", (ToolResult("call_2", "no clock", is_error=True),)),
            ),
        },
    ),
    Call(
        "thinking sent back",
        {
            "max_tokens": 50,
            "messages": [
                HI,
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Hm.", "signature": "c2VhbA=="},
                        {"type": "text", "text": "Hello."},
                    ],
                },
                {"role": "user", "content": "And now?"},
            ],
        },
        {
            "max_tokens": 50,
            "messages": (
                *ASKED,
                Message("assistant", (Reasoning("Hm.", "c2VhbA=="), Text("Hello."))),
                Message("user", "And now?"),
            ),
        },
    ),
    Call(
        "images",
        {
            "max_tokens": 50,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG64}},
                        {"type": "image", "source": {"type": "url", "url": "https://x.invalid/a.png"}},
                        {"type": "text", "text": "What is it?"},
                    ],
                }
            ],
        },
        {
            "max_tokens": 50,
            "messages": (
                Message("user", (PICTURE, Media(kind="image", url="https://x.invalid/a.png"), Text("What is it?"))),
            ),
        },
    ),
    Call(
        "a document",
        {
            "max_tokens": 50,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "document",
                            "source": {"type": "base64", "media_type": "application/pdf", "data": PDF64},
                            "title": "a.pdf",
                        }
                    ],
                }
            ],
        },
        {
            "max_tokens": 50,
            "messages": (
                Message("user", (Media(kind="document", media_type="application/pdf", data=PDF, name="a.pdf"),)),
            ),
        },
    ),
    Call(
        "structured output",
        {"max_tokens": 50, "messages": [HI], "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {"max_tokens": 50, "output": SCHEMA},
    ),
    Call(
        "a cached prompt",
        {"max_tokens": 50, "messages": [HI], "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"max_tokens": 50, "cache": "1h"},
    ),
    Call(
        "what only Anthropic knows",
        {"max_tokens": 50, "messages": [HI], "service_tier": "standard_only", "inference_geo": "us"},
        {"max_tokens": 50, "extra": {"service_tier": "standard_only", "inference_geo": "us"}},
    ),
]

# ---------------------------------------------------------------------------------------------------- Ollama


def ollama_call(call: ToolCall) -> dict[str, Any]:
    return {"function": {"name": call.name, "arguments": call.arguments}}


UNNAMED = ToolCall("", "weather", {"city": "Rome"}, ARGUMENTS)
LOCAL = [
    Call("a question", {"messages": [HI]}),
    Call("system text", {"messages": [{"role": "system", "content": "Be brief."}, HI]}, {"system": "Be brief."}),
    Call(
        "a conversation",
        {"messages": [HI, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "And now?"}]},
        {"messages": (*ASKED, Message("assistant", "Hello."), Message("user", "And now?"))},
    ),
    Call("a stream", {"messages": [HI], "stream": True}, {"stream": True}),
    Call(
        "options",
        {
            "messages": [HI],
            "options": {"num_predict": 50, "temperature": 0.2, "top_p": 0.9, "seed": 7, "stop": ["END"]},
        },
        {"max_tokens": 50, "temperature": 0.2, "top_p": 0.9, "seed": 7, "stop": ("END",)},
    ),
    Call(
        "options that only Ollama knows",
        {"messages": [HI], "options": {"num_predict": 50, "num_ctx": 8192}, "keep_alive": "10m"},
        {"max_tokens": 50, "extra": {"options": {"num_ctx": 8192}, "keep_alive": "10m"}},
    ),
    Call("no thinking", {"messages": [HI], "think": False}, {"reasoning": "none"}),
    Call("a level of thinking", {"messages": [HI], "think": "high"}, {"reasoning": "high"}),
    Call(
        "a tool",
        {
            "messages": [HI],
            "tools": [
                openai_tool(
                    Tool(
                        name="weather",
                        description="Tell.",
                        parameters={"type": "object", "properties": {"city": {"type": "string"}}},
                    )
                )
            ],
        },
        {
            "tools": (
                Tool(
                    name="weather",
                    description="Tell.",
                    parameters={"type": "object", "properties": {"city": {"type": "string"}}},
                ),
            )
        },
    ),
    Call(
        "a tool's result",
        {
            "messages": [
                HI,
                {"role": "assistant", "content": "", "tool_calls": [ollama_call(CALL)]},
                {"role": "tool", "content": "sunny", "tool_name": "weather"},
            ]
        },
        {
            "messages": (
                *ASKED,
                Message("assistant", (UNNAMED,)),
                Message("tool", (ToolResult("", "sunny", "weather"),)),
            )
        },
        differs={"messages": "the SDK leaves out an empty text; the server takes both for the same"},
    ),
    Call(
        "thinking sent back",
        {
            "messages": [
                HI,
                {"role": "assistant", "content": "Hello.", "thinking": "Hm."},
                {"role": "user", "content": "And now?"},
            ]
        },
        {"messages": (*ASKED, Message("assistant", (Reasoning("Hm."), Text("Hello."))), Message("user", "And now?"))},
    ),
    Call(
        "an image",
        {"messages": [{"role": "user", "content": "What is it?", "images": [PNG]}]},
        {"messages": (Message("user", (Text("What is it?"), PICTURE)),)},
    ),
    Call("structured output", {"messages": [HI], "format": SCHEMA}, {"output": SCHEMA}),
    Call(
        "log probabilities",
        {"messages": [HI], "logprobs": True, "top_logprobs": 2},
        {"extra": {"logprobs": True, "top_logprobs": 2}},
    ),
]

# ---------------------------------------------------------------------------------------------------- Gemini

TURN = {"role": "user", "parts": [{"text": "Hi"}]}
GEMINI = [
    Call("a question", {"contents": "Hi"}),
    Call(
        "system text",
        {"contents": "Hi", "config": {"system_instruction": "Be brief."}},
        {"system": "Be brief."},
        differs={"systemInstruction": "the SDK gives the system's turn a role, `user`, which it is not"},
    ),
    Call(
        "a conversation",
        {
            "contents": [
                TURN,
                {"role": "model", "parts": [{"text": "Hello."}]},
                {"role": "user", "parts": [{"text": "And now?"}]},
            ]
        },
        {"messages": (*ASKED, Message("assistant", "Hello."), Message("user", "And now?"))},
    ),
    Call(
        "options",
        {
            "contents": "Hi",
            "config": {"max_output_tokens": 50, "temperature": 0.2, "top_p": 0.9, "stop_sequences": ["END"], "seed": 7},
        },
        {"max_tokens": 50, "temperature": 0.2, "top_p": 0.9, "stop": ("END",), "seed": 7},
    ),
    Call(
        "a budget for thinking",
        {"contents": "Hi", "config": {"thinking_config": {"thinking_budget": 2048, "include_thoughts": True}}},
        {"reasoning": 2048},
    ),
    Call(
        "a tool that must be called",
        {
            "contents": "Hi",
            "config": {
                "tools": [
                    {
                        "function_declarations": [
                            {"name": "weather", "description": "Tell the weather.", "parameters_json_schema": SCHEMA}
                        ]
                    }
                ],
                "tool_config": {"function_calling_config": {"mode": "ANY"}},
                "automatic_function_calling": {"disable": True},
            },
        },
        {"tools": (WEATHER,), "tool_choice": "required"},
    ),
    Call(
        "an image",
        {
            "contents": [
                {
                    "role": "user",
                    "parts": [{"text": "What is it?"}, {"inline_data": {"mime_type": "image/png", "data": PNG}}],
                }
            ]
        },
        {"messages": (Message("user", (Text("What is it?"), PICTURE)),)},
    ),
    Call(
        "structured output",
        {"contents": "Hi", "config": {"response_mime_type": "application/json", "response_json_schema": SCHEMA}},
        {"output": SCHEMA},
    ),
]

CALLS: Mapping[str, list[Call]] = {
    "openai_chat": CHAT,
    "openai_responses": RESPONSES,
    "anthropic": MESSAGES,
    "ollama": LOCAL,
    "gemini": GEMINI,
}
