-- Version 4 had no model in its feedback; see `schema.sql`, which runs before this.

ALTER TABLE feedback ADD COLUMN model TEXT;
UPDATE feedback SET model = (
    SELECT json_extract(CAST(body AS TEXT), '$.model') FROM messages
    WHERE messages.id = feedback.message AND json_valid(CAST(body AS TEXT))
);
