"""The tests that every store must pass, in classes by subject."""
