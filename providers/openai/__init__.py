"""The dialects of OpenAI's Chat Completions API and Responses API."""
