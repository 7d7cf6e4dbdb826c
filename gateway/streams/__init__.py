"""The fan-out of a turn's events to its readers: the log, attachments, outboxes, and the pump."""
