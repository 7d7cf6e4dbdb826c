"""The words of providers for a request that is too long, and for a model that doesn't exist or was retired. Data only.

They are collected from the documentation and the sources of the providers, and matched against a text in lower case
without quotations (`Reason.words`).
"""

from __future__ import annotations

from typing import Final

_LENGTH: Final = r"(?:length|window|size|limit|tokens?|budget|count)"
_SUBJECT: Final = r"(?:prompt|inputs?|messages?|conversation|context|history|prompt tokens)"

_NO_OUTPUT: Final = (
    r"^(?!.{0,300}\b(?:rate|quota|per (?:minute|day|hour)|please wait|completion|maximum tokens you)\b).{0,300}"
)
"""A lookahead that excludes texts about a rate or the output, because they speak of a number of tokens too."""
_TOKENS: Final = (
    # "token limit exceeded", "exceeds the token limit", "prompt tokens limit exceeded: 3 > 2" (OpenRouter).
    r"\btokens? limit (?:is |was )?exceeded|exceed\w* (?:the )?(?:max(?:imum)? )?token limit|exceed max message tokens",
    # "input tokens 3 exceeds limit of 2", "the total tokens exceeds the limit".
    r"\b(?:input|prompt|total)[\w\s]{0,30}\btokens? (?:\d{1,12} )?(?:exceeds?|is over|is above)\b",
    # "your prompt has 3 tokens, but …"
    r"\b(?:prompt|request|input|conversation) (?:has|is|contains) \d{1,12} tokens\b",
)

TOO_LONG: Final = "|".join(
    (
        # Named codes and types.
        r"context_length_exceeded|context_length\b|context_window_exceeded|contextwindowexceeded|exceed_context_size|context_overflow",
        r"prompt_too_long|input_too_long|tokens_limit_reached|string_above_max_length|context_too_long|tokens_too_long|max_context_length|model_max_prompt_tokens",
        # GLM, ERNIE.
        r"^(?:\S+ )?(?:1261|336007|336103)\b",
        # "Prompt is too long" (Anthropic, Fireworks, Vertex), "input is too long" (Bedrock).
        rf"\b{_SUBJECT}(?: is| are| was)? too (?:long|large)\b|request (?:is|was) too long for",
        r"too large for model with|input is too large to process|request too large for|body too large for .{0,80} model",
        # "Too many tokens" (Cohere, Bedrock, AI21), but not "too many tokens, please wait".
        r"too many (?:input |prompt )?tokens(?!,? (?:please )?wait| per )",
        # "maximum context length" (OpenAI, vLLM, OpenRouter), "maximum prompt length" (xAI), "maximum model length" (vLLM).
        r"max(?:imum)? (?:context|prompt|model|input|sequence) length|max_model_len|maximum allowed length",
        rf"context {_LENGTH}|exceed\w* (?:the )?model's context\b|input length \S{{1,20}} exceed",
        rf"{_NO_OUTPUT}(?:{'|'.join(_TOKENS)})",
        r"(?<!maximum tokens you requested )exceed\w*[\w\s']{0,40}"
        rf"\b(?:context|input|prompt|model|model's|model token)[\s_-]?{_LENGTH}",
        # "exceeds the maximum number of tokens" (Gemini), "the number of input tokens … cannot exceed" (watsonx, Cohere).
        r"exceed\w* (?:the )?max(?:imum)? (?:number of )?(?:input |prompt )?tokens|input tokens exceed",
        r"(?:input|prompt) tokens? counts?|number of (?:input |prompt )?tokens[\w\s(),]{0,40}exceed",
        r"tokens in request more than max tokens",
        # "longer than the model's context length" (Together, SGLang), "greater than the context length" (LM Studio).
        r"(?:longer|greater|larger) than the (?:model'?s? )?(?:maximum )?(?:context|model)\b",
        # "`inputs` tokens + `max_new_tokens` must be <= 8193" (TGI, Together), "must have less than 1000 tokens" (TGI).
        r"tokens \+ \S{1,40} must be <=|must have less than \d{1,9} tokens",
        r"range of input length|input length and .{0,200}exceed|input length exceed|prompt exceeds (?:the )?max",
        r"reduce (?:the )?(?:length|size) of (?:the |your )?(?:input |prompt |message)",
        r"reduce your (?:prompt|message size)|reduce the input token|(?:shorten|shorter) (?:your |the )?(?:prompt|conversation)",
        r"context the overflows|context overflow|expected maxlength: \d{1,12}, actual: \d",
        r"(?:超过|超出|大于).{0,20}(?:长度|上下文)|(?:长度|上下文).{0,20}(?:超过|超出|超限|过长)",
        r"(?:输入|提示词?|prompt).{0,10}(?:过长|超长|太长)",
        r"(?:输入|提示词?|prompt|^) ?tokens? ?(?:数量?|总数).{0,10}(?:超过|超出|超限)",
    )
)

GONE: Final = "|".join(
    (
        # Named codes and types.
        r"model_not_found|modelnotfound|model_not_exist|model_?decommissioned|model_archived|model_deprecated|model_retired",
        r"model_not_available|model_not_supported|model_withdrawn|unavailable[_ ]model|invalid[_ ]model\b|unknown[_ ]model\b",
        r"deployment_?not_?found|invalidendpointormodel|modelnotopen|^(?:\S+ )?1211\b",
        r"model not supported by provider|plan (?:does )?not support (?:the )?model\b|unrecognized model\b|no model named",
        r"(?:cannot|can't|could not|couldn't) find (?:the )?model\b|support for (?:the )?model .{0,80} ended",
        r"model id [\w.:/-]{1,100} with on-demand throughput|access to the model with the specified model id",
        r"\bdeprecated and (?:is )?no longer (?:available|supported|served|offered)",
        r"not found the model|no such model|model identifier|not a valid model|unable to access (?:non-serverless )?model",
        r"end[- ]of[- ](?:its |their )?life|marked by provider as legacy",
        r"no endpoints found(?! that support)|no (?:endpoints|allowed providers) (?:are )?available",
        r"模型不存在|模型.{0,20}(?:下线|停用|弃用|不存在)",
    )
)
"""Words that only a missing model has. They are matched before the rules of other failures."""

_GONE_STATES: Final = (
    r"(?:deprecated|decommissioned|retired|removed|discontinued|sunset|sunsetted|shut ?down|archived|withdrawn|disabled"
    r"|deleted|unavailable|obsolete|expired|replaced|superseded|phased out|turned off|taken (?:offline|down))"
)
ABSENT: Final = "|".join(
    (
        r"model[\w\s'\"`:./@()-]{0,80}(?:does not exist|doesn't exist|not exist|not found|is not available|not loaded)",
        r"model[\w\s'\"`:./@()-]{0,80}(?:isn't available|cannot be found|can't be found|has expired)",
        r"\b(?:gemini|gpt|claude|llama|mistral|qwen|grok|deepseek|glm|kimi|palm)[\w .:/-]{0,60} "
        rf"(?:is|was|been) {_GONE_STATES}\b",
        r"model[\w\s'\"`:./@()-]{0,80}no longer (?:available|supported|served|offered|exists?|accessible|active)",
        # A deprecated parameter of a model isn't a deprecated model.
        r"^(?!.{0,300}\b(?:parameters?|arguments?|fields?|options?|headers?|features?|endpoint)\b)"
        rf".{{0,400}}\bmodels?\b[\w\s'\"`:./@()-]{{0,80}}\b(?:is|are|was|were|been)(?: now)? {_GONE_STATES}\b",
        r"deployment [\w\s]{0,40}does not exist|no models? loaded|requested model is not supported|unsupported model",
        r"^not_found_error.*\bmodel\b|has not activated the model",
    )
)
"""Words that other failures may have too. They are matched after the rules of content, quota and access."""
