-- Policies that deny, that are only tried, that have variables, that hold at certain hours.

-- scopes of a denial are empty bytes when it denies everything at the audience. audience_varies: it has variables.
-- weekdays: bit 0 Monday to bit 6 Sunday, 0 every day; day_from_s and day_until_s: seconds of the day, UTC.
CREATE TABLE policies_of_kinds (
        id INTEGER PRIMARY KEY,
        for_label INTEGER NOT NULL CHECK (for_label IN (0, 1)),
        subject TEXT NOT NULL,
        audience TEXT NOT NULL,
        audience_varies INTEGER NOT NULL DEFAULT 0 CHECK (audience_varies IN (0, 1)),
        effect INTEGER NOT NULL DEFAULT 1,
        is_shadow INTEGER NOT NULL DEFAULT 0 CHECK (is_shadow IN (0, 1)),
        scopes ANY NOT NULL,
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
-- Its order is that of the lookup, which it answers alone (but for created_s).
CREATE UNIQUE INDEX policies_once ON policies (for_label, subject, audience_varies, audience, scopes, max_lifetime_s,
        valid_from_s, valid_until_s, effect, is_shadow, advance_s, weekdays, day_from_s, day_until_s);
CREATE INDEX policies_varying ON policies (for_label, subject) WHERE audience_varies = 1;
CREATE INDEX policies_at_audience ON policies (audience);
