-- Version 3 had no table `stored`; see `schema.sql`, which runs before this.

INSERT INTO stored (user, conversations, bytes)
    SELECT user, count(*), sum(length(CAST(title AS BLOB)) + length(CAST(coalesce(system, '') AS BLOB)) + length(metadata))
    FROM conversations GROUP BY user;
UPDATE stored SET bytes = bytes
    + coalesce((SELECT sum(length(body)) FROM messages WHERE messages.user = stored.user), 0);
