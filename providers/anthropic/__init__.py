"""The dialects of Anthropic's Messages API: at Anthropic, and on Bedrock, Vertex AI and Foundry."""
