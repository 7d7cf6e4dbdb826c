"""The dialects of Anthropic's Messages, directly and through clouds."""
