-- Policies that deny, that are only tried, that have variables, that hold at certain hours.

CREATE TABLE policies_of_kinds (
        id INTEGER PRIMARY KEY,
        for_label INTEGER NOT NULL CHECK (for_label IN (0, 1)),
        subject TEXT NOT NULL,
        audience TEXT NOT NULL,
        audience_varies INTEGER NOT NULL DEFAULT 0 CHECK (audience_varies IN (0, 1)),
        effect INTEGER NOT NULL DEFAULT 1,
        is_shadow INTEGER NOT NULL DEFAULT 0 CHECK (is_shadow IN (0, 1)),
        scopes ANY,
        max_lifetime_s INTEGER NOT NULL,
        valid_from_s INTEGER NOT NULL,
        valid_until_s INTEGER NOT NULL,
        advance_s INTEGER NOT NULL DEFAULT 0,
        weekdays INTEGER NOT NULL DEFAULT 0,
        day_from_s INTEGER NOT NULL DEFAULT 0,
        day_until_s INTEGER NOT NULL DEFAULT 0,
        created_s INTEGER NOT NULL
) STRICT;
INSERT INTO policies_of_kinds SELECT id, for_label, subject, audience, 0, 1, 0, scopes, max_lifetime_s, valid_from_s,
        valid_until_s, 0, 0, 0, 0, created_s FROM policies;
DROP TABLE policies;
ALTER TABLE policies_of_kinds RENAME TO policies;
CREATE UNIQUE INDEX policies_once ON policies (for_label, subject, audience_varies, audience, effect, is_shadow,
        coalesce(scopes, x''), max_lifetime_s, valid_from_s, valid_until_s, advance_s, weekdays, day_from_s, day_until_s);
CREATE INDEX policies_at_audience ON policies (audience);
