-- The tables of the SQLite store. `n` orders rows by insertion.

-- `id` is unique for its user only, because clients may choose it; other tables refer to `key`. `changed` orders a user's
-- conversations by their last change: each change gets the next number, whatever the clock says.
CREATE TABLE IF NOT EXISTS conversations (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    id TEXT NOT NULL,
    user TEXT NOT NULL,
    title TEXT NOT NULL,
    system TEXT,
    model TEXT,
    metadata BLOB NOT NULL,
    head TEXT,
    revision INTEGER NOT NULL,
    cleared_revision INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    messages INTEGER NOT NULL DEFAULT 0,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens INTEGER NOT NULL DEFAULT 0,
    cache_read_tokens INTEGER NOT NULL DEFAULT 0,
    cache_write_tokens INTEGER NOT NULL DEFAULT 0,
    cost_nano INTEGER,
    changed INTEGER NOT NULL,
    retention_days INTEGER,
    pinned INTEGER NOT NULL DEFAULT 0,
    UNIQUE (user, id)
);
CREATE INDEX IF NOT EXISTS conversations_by_change ON conversations (user, changed);

-- The storage of each user: the number of conversations, and the bytes of their texts and of their messages.
CREATE TABLE IF NOT EXISTS stored (
    user TEXT PRIMARY KEY,
    conversations INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS conversation_comes AFTER INSERT ON conversations BEGIN
    INSERT INTO stored (user) SELECT new.user WHERE new.user NOT IN (SELECT user FROM stored);
    UPDATE stored SET conversations = conversations + 1, bytes = bytes + length(CAST(new.title AS BLOB))
        + length(CAST(coalesce(new.system, '') AS BLOB)) + length(new.metadata) WHERE user = new.user;
END;
CREATE TRIGGER IF NOT EXISTS conversation_changes AFTER UPDATE OF title, system, metadata ON conversations BEGIN
    UPDATE stored SET bytes = bytes + length(CAST(new.title AS BLOB)) - length(CAST(old.title AS BLOB))
        + length(CAST(coalesce(new.system, '') AS BLOB)) - length(CAST(coalesce(old.system, '') AS BLOB))
        + length(new.metadata) - length(old.metadata) WHERE user = new.user;
END;
CREATE TRIGGER IF NOT EXISTS conversation_goes AFTER DELETE ON conversations BEGIN
    UPDATE stored SET conversations = conversations - 1, bytes = bytes - length(CAST(old.title AS BLOB))
        - length(CAST(coalesce(old.system, '') AS BLOB)) - length(old.metadata) WHERE user = old.user;
END;

-- The id of a message is unique for its user only. The index and the triggers are in `indexes.sql`.
CREATE TABLE IF NOT EXISTS messages (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    user TEXT NOT NULL,
    conversation TEXT NOT NULL REFERENCES conversations (key) ON DELETE CASCADE,
    parent TEXT,
    role TEXT NOT NULL,
    turn TEXT,
    created_ms INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (user, id)
);

-- The search: the words of the messages, see `store/search_text.py`. `owner` has one word, which stands for the user. The
-- messages of users who search are added some time after a search, in the order of `n`, up to the user's number in `searches`.
-- A deleted one is in `removed_messages` until its words are deleted too.
CREATE VIRTUAL TABLE IF NOT EXISTS message_words USING fts5 (owner, words, tokenize = 'ascii', columnsize = 0);
CREATE TABLE IF NOT EXISTS searches (
    user TEXT PRIMARY KEY,
    indexed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS removed_messages (
    n INTEGER PRIMARY KEY
);

-- `conversation` is null for a stateless turn, and for a turn whose conversation was deleted. `ended_ms` is the time of
-- the ending by the gateway's clock. `stored_ms` is its time by this store's clock, which decides when data expires.
-- The wide columns are last, so that reading the others doesn't touch their pages.
CREATE TABLE IF NOT EXISTS turns (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    user TEXT NOT NULL,
    turn TEXT NOT NULL,
    conversation TEXT REFERENCES conversations (key) ON DELETE SET NULL,
    epoch INTEGER NOT NULL,
    owner TEXT NOT NULL,
    status TEXT NOT NULL,
    seq INTEGER,
    logged INTEGER NOT NULL DEFAULT 1,
    message TEXT NOT NULL,
    input TEXT,
    parent TEXT,
    model TEXT NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0,
    accepted_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    stored_ms INTEGER,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens INTEGER NOT NULL DEFAULT 0,
    cache_read_tokens INTEGER NOT NULL DEFAULT 0,
    cache_write_tokens INTEGER NOT NULL DEFAULT 0,
    cost_nano INTEGER,
    digest BLOB NOT NULL,
    cancel BLOB,
    request BLOB,
    ending BLOB,
    stateless_message BLOB,
    UNIQUE (user, turn)
);
-- Few of all turns are running, so every query for running turns names this index.
CREATE INDEX IF NOT EXISTS turns_running ON turns (user, conversation) WHERE stored_ms IS NULL;
CREATE INDEX IF NOT EXISTS turns_with_log ON turns (stored_ms) WHERE logged;
CREATE INDEX IF NOT EXISTS turns_by_conversation ON turns (conversation);
CREATE INDEX IF NOT EXISTS turns_by_end ON turns (user, ended_ms);

-- One row for each append, or for appends that are in rows of `flushes`: then the column `flushes` has their numbers as JSON, and
-- `payload` is empty. `turn` is the number of the turn's row, which stays valid when an id is reused. A turn's
-- entries are a chain, from the newest one back by `previous`. So a flush of many turns adds rows at the table's end
-- and changes neighboring rows of `log_tails`; with an index by turn it would change a page for each turn.
CREATE TABLE IF NOT EXISTS log (
    n INTEGER PRIMARY KEY,
    turn INTEGER NOT NULL REFERENCES turns (n),
    previous INTEGER,
    epoch INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    payload BLOB NOT NULL,
    flushes TEXT
);
CREATE TABLE IF NOT EXISTS log_tails (
    turn INTEGER PRIMARY KEY,
    entry INTEGER NOT NULL,
    last INTEGER NOT NULL
);
CREATE TRIGGER IF NOT EXISTS log_grows AFTER INSERT ON log BEGIN
    INSERT OR REPLACE INTO log_tails (turn, entry, last) VALUES (new.turn, new.n, new.last);
END;

-- Entries of many turns in each row: see `flushes.py`. `entries` says whose they are and how long each payload is, as
-- MessagePack, and `payloads` has the payloads one after another. `since` is the first row that no row of `log` named when
-- this one was written, so that only the newest rows are read after a crash.
CREATE TABLE IF NOT EXISTS flushes (
    n INTEGER PRIMARY KEY,
    since INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    entries BLOB NOT NULL,
    payloads BLOB NOT NULL
);

-- A lease has no meaning for the next process, which can open the file only if this one is dead. So leases are written
-- in the same transactions as turns, but never to the file. `until_s` is by the monotonic clock.
CREATE TEMP TABLE IF NOT EXISTS leases (
    turn INTEGER PRIMARY KEY,
    until_s REAL NOT NULL
);

-- The running turns that wait for other turns of their conversation.
CREATE TABLE IF NOT EXISTS queues (
    turn INTEGER PRIMARY KEY REFERENCES turns (n)
);

-- The time when each user's next start is due, for the rate limit. It isn't kept for the next process either.
CREATE TEMP TABLE IF NOT EXISTS starts (
    user TEXT PRIMARY KEY,
    due_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS temp.starts_by_end ON starts (due_us);

CREATE TABLE IF NOT EXISTS feedback (
    message TEXT NOT NULL,
    user TEXT NOT NULL,
    rating TEXT NOT NULL,
    comment TEXT,
    at_ms INTEGER NOT NULL,
    model TEXT,
    PRIMARY KEY (user, message),
    FOREIGN KEY (user, message) REFERENCES messages (user, id) ON DELETE CASCADE
);

-- The ephemeral values.
CREATE TABLE IF NOT EXISTS notes (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    until_ms INTEGER NOT NULL,
    user TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS notes_by_end ON notes (until_ms);
