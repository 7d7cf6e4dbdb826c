"""The dialects of OpenAI's Chat Completions and Responses."""
