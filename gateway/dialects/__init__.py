"""The protocols of other chat services: pure translators between their requests and frames and ours."""
