"""The mapping of providers' failures and finish reasons to our errors and finish reasons."""
