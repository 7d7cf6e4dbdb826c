"""What an operator sees: metrics, logs and traces, none of them paid for per token."""
