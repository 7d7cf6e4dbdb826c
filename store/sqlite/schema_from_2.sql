-- Version 2 had an index of the log by turn. Now a turn's entries are a chain: see `schema.sql`, which runs first.

ALTER TABLE log ADD COLUMN previous INTEGER;
UPDATE log SET previous = (SELECT older.n FROM log AS older WHERE older.turn = log.turn AND older.last = log.first - 1);
DROP INDEX log_by_turn;
INSERT INTO log_tails (turn, entry, last) SELECT turn, n, max(last) FROM log GROUP BY turn;
