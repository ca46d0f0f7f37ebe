#include <errno.h>

#include "domain/aif.h"
#include "store/private.h"

#define CLIENT_COLUMNS(c)                                                                                           \
        c ".id, " c ".name, " c ".suspended, " c ".profiles, " c ".default_audience, " c ".created_s, "             \
        c ".max_lifetime_s, " c ".tokens_max, " c ".refresh_lifetime_s, " c ".may_introspect"

#define SERVER_COLUMNS                                                                                              \
        "s.id, s.name, s.suspended, s.profiles, s.scope_kind, s.scopes, s.default_scope, s.token_format, "          \
        "s.token_alg, s.token_tagged, s.default_lifetime_s, s.max_lifetime_s, s.has_clock, s.created_s, s.mac_alg, " \
        "s.sign_alg, s.pop_keys, s.derives_key, s.has_trl, s.preferred_profile, s.oscore_alg, s.oscore_hkdf"

#define CREDENTIAL_COLUMNS "id, kind, client_id, server_id, identity, created_s, public, kid"

#define OSCORE_COLUMNS(o)                                                                                           \
        o ".recipient_id, " o ".sender_id, " o ".id_context, " o ".alg, " o ".hkdf, " o ".salt, " o ".renews"
/* c: a row of credentials */
#define IS_SUSPENDED(c)                                                                                             \
        "coalesce((SELECT suspended FROM clients WHERE id = " c ".client_id), "                                     \
        "(SELECT suspended FROM servers WHERE id = " c ".server_id))"
/* its ID Context is ?2, or was when it was registered */
#define CONTEXT_IS(o) "(coalesce(" o ".renewed_context, " o ".id_context) IS ?2 OR " o ".id_context IS ?2)"

#define AS_KEY_COLUMNS "id, role, alg, kid, public, certificate, active_from_s, created_s"

#define POLICY_COLUMNS                                                                                              \
        "id, for_label, subject, audience, scopes, max_lifetime_s, valid_from_s, valid_until_s, effect, "           \
        "is_shadow, advance_s, weekdays, day_from_s, day_until_s, audience_varies"

/* The tokens of who is gone are revoked since then. */
#define TOKEN_COLUMNS                                                                                               \
        "t.number, t.key_number, t.hash, t.client_id, t.server_id, coalesce(c.name, gc.name, ''), "                 \
        "coalesce(s.name, gs.name, ''), t.audience, t.scope, t.profile, t.issued_s, t.expires_s, "                  \
        "CASE WHEN t.revoked_s <> 0 THEN t.revoked_s WHEN c.id IS NULL THEN coalesce(gc.gone_s, 1) "                \
        "WHEN s.id IS NULL AND t.server_id <> 0 THEN coalesce(gs.gone_s, 1) ELSE 0 END, "                           \
        "t.public, t.kid, t.exi, t.nbf_s, t.cnonce, t.family, t.trl_hash, t.osc"
#define TOKEN_TABLES                                                                                                \
        "tokens t LEFT JOIN clients c ON c.id = t.client_id LEFT JOIN servers s ON s.id = t.server_id "             \
        "LEFT JOIN gone gc ON gc.id = t.client_id LEFT JOIN gone gs ON gs.id = t.server_id "
/* ?1: after, ?2: limit, ?3: live ones only, at ?4 */
#define TOKEN_LIVE                                                                                                  \
        "(NOT ?3 OR (t.expires_s > ?4 AND t.revoked_s = 0 AND c.id IS NOT NULL "                                    \
        "AND (s.id IS NOT NULL OR t.server_id = 0))) "

/* What revoking a token takes (trl.c); ?1: whose, ?2: after, ?3: limit */
#define REVOCATION_COLUMNS "number, client_id, server_id, audience, expires_s, revoked_s, trl_hash"
#define REFRESH_COLUMNS "number, client_id, server_id, audience, expires_s, revoked_s, NULL"

/* For a client and its labels: ?1 its name, ?2 the audience, ?3 its id. */
#define POLICIES_AT                                                                                                 \
        "SELECT " POLICY_COLUMNS " FROM policies WHERE for_label = 0 AND subject = ?1 "                             \
        "AND audience_varies = 0 AND audience = ?2 UNION ALL "                                                      \
        "SELECT " POLICY_COLUMNS " FROM client_labels l CROSS JOIN policies p "                                     \
        "WHERE l.client_id = ?3 AND p.for_label = 1 AND p.subject = l.label "                                       \
        "AND p.audience_varies = 0 AND p.audience = ?2"

static const char *const table[QUERIES] = {
        [QUERY_BEGIN] = "BEGIN IMMEDIATE",
        [QUERY_COMMIT] = "COMMIT",
        [QUERY_ROLLBACK] = "ROLLBACK",
        [QUERY_SAVEPOINT] = "SAVEPOINT request",
        [QUERY_SAVEPOINT_RELEASE] = "RELEASE request",
        [QUERY_SAVEPOINT_UNDO] = "ROLLBACK TO request",
        [QUERY_LEASE] = "UPDATE leases SET next = next + ?2 WHERE kind = ?1 RETURNING next",
        [QUERY_LEASE_RETURN] = "UPDATE leases SET next = ?3 WHERE kind = ?1 AND next = ?2",
        [QUERY_COUNTS] = "SELECT (SELECT count(*) FROM clients), (SELECT count(*) FROM servers), "
                         "(SELECT count(*) FROM policies), (SELECT count(*) FROM tokens)",
        [QUERY_CLOCK_GET] = "SELECT value FROM meta WHERE name = 'believed_s'",
        [QUERY_CLOCK_SET] = "INSERT INTO meta (name, value) VALUES ('believed_s', ?1) "
                            "ON CONFLICT DO UPDATE SET value = excluded.value",
        [QUERY_SECRETS_OF_SERVERS] = "SELECT id, secret, secret_mark FROM server_keys WHERE id > ?1 "
                                     "ORDER BY id LIMIT ?2",
        [QUERY_SECRETS_OF_CREDENTIALS] = "SELECT id, secret, secret_mark, kind, public, identity FROM credentials "
                                         "WHERE id > ?1 ORDER BY id LIMIT ?2",
        [QUERY_SECRETS_OF_AS_KEYS] = "SELECT id, secret, alg, public, certificate FROM as_keys WHERE id > ?1 "
                                     "ORDER BY id LIMIT ?2",
        /* what is bound to a public key has none */
        [QUERY_SECRETS_OF_TOKENS] = "SELECT number, pop_key FROM tokens WHERE number > ?1 AND pop_key <> x'' "
                                    "ORDER BY number LIMIT ?2",
        [QUERY_SECRETS_OF_REFRESH_TOKENS] = "SELECT number, pop_key FROM refresh_tokens WHERE number > ?1 "
                                            "AND pop_key <> x'' ORDER BY number LIMIT ?2",

        [QUERY_CLIENT_ADD] = "INSERT INTO clients (id, name, suspended, profiles, default_audience, max_lifetime_s, "
                             "tokens_max, refresh_lifetime_s, may_introspect, created_s) "
                             "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        [QUERY_CLIENT_UPDATE] = "UPDATE clients SET suspended = ?3, profiles = ?4, default_audience = ?5, "
                                "max_lifetime_s = ?6, tokens_max = ?7, refresh_lifetime_s = ?8, may_introspect = ?9 "
                                "WHERE id = ?1",
        [QUERY_CLIENT_POLICIES_DELETE] = "DELETE FROM policies WHERE for_label = 0 "
                                         "AND subject = (SELECT name FROM clients WHERE id = ?1)",
        [QUERY_CLIENT_GONE] = "INSERT INTO gone (id, is_server, name, gone_s, until_s) SELECT id, 0, name, ?2, "
                              "(SELECT max(expires_s) FROM tokens) FROM clients "
                              "WHERE id = ?1 AND EXISTS (SELECT 1 FROM tokens WHERE client_id = ?1)",
        [QUERY_CLIENT_DELETE] = "DELETE FROM clients WHERE id = ?1",
        [QUERY_CLIENT_BY_NAME] = "SELECT " CLIENT_COLUMNS("clients") " FROM clients WHERE name = ?1",
        [QUERY_CLIENT_BY_ID] = "SELECT " CLIENT_COLUMNS("clients") " FROM clients WHERE id = ?1",
        [QUERY_CLIENT_EACH] = "SELECT " CLIENT_COLUMNS("clients") " FROM clients WHERE name > ?1 "
                              "ORDER BY name LIMIT ?2",
        [QUERY_LABELS_DELETE] = "DELETE FROM client_labels WHERE client_id = ?1",
        [QUERY_LABEL_ADD] = "INSERT INTO client_labels (client_id, label) SELECT id, ?2 FROM clients WHERE id = ?1 "
                            "ON CONFLICT DO NOTHING",
        [QUERY_LABELS] = "SELECT label FROM client_labels WHERE client_id = ?1 ORDER BY label",

        [QUERY_SERVER_ADD] = "INSERT INTO servers (id, name, suspended, profiles, scope_kind, scopes, default_scope, "
                             "token_format, token_alg, token_tagged, default_lifetime_s, max_lifetime_s, has_clock, "
                             "mac_alg, sign_alg, pop_keys, derives_key, has_trl, preferred_profile, oscore_alg, "
                             "oscore_hkdf, created_s) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, "
                             "?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)",
        [QUERY_SERVER_UPDATE] = "UPDATE servers SET suspended = ?3, profiles = ?4, scope_kind = ?5, scopes = ?6, "
                                "default_scope = ?7, token_format = ?8, token_alg = ?9, token_tagged = ?10, "
                                "default_lifetime_s = ?11, max_lifetime_s = ?12, has_clock = ?13, mac_alg = ?14, "
                                "sign_alg = ?15, pop_keys = ?16, derives_key = ?17, has_trl = ?18, "
                                "preferred_profile = ?19, oscore_alg = ?20, oscore_hkdf = ?21 WHERE id = ?1",
        [QUERY_SERVER_POLICIES_DELETE] = "DELETE FROM policies WHERE audience IN (SELECT a.name FROM audiences a "
                                         "WHERE a.server_id = ?1 AND NOT EXISTS (SELECT 1 FROM audiences b "
                                         "WHERE b.name = a.name AND b.server_id <> ?1))",
        [QUERY_SERVER_GONE] = "INSERT INTO gone (id, is_server, name, gone_s, until_s) SELECT id, 1, name, ?2, "
                              "(SELECT max(expires_s) FROM tokens) FROM servers "
                              "WHERE id = ?1 AND EXISTS (SELECT 1 FROM tokens WHERE server_id = ?1)",
        [QUERY_SERVER_DELETE] = "DELETE FROM servers WHERE id = ?1",
        [QUERY_SERVER_BY_NAME] = "SELECT " SERVER_COLUMNS " FROM servers s WHERE s.name = ?1",
        [QUERY_SERVER_BY_ID] = "SELECT " SERVER_COLUMNS " FROM servers s WHERE s.id = ?1",
        [QUERY_SERVER_EACH] = "SELECT " SERVER_COLUMNS " FROM servers s WHERE s.name > ?1 ORDER BY s.name LIMIT ?2",
        [QUERY_AUDIENCE_CONFLICT] = "SELECT 1 FROM audiences WHERE name = ?1 AND server_id <> ?2 "
                                    "AND NOT (is_group AND ?3) LIMIT 1",
        [QUERY_AUDIENCE_ADD] = "INSERT INTO audiences (name, server_id, is_group) SELECT ?1, id, ?3 FROM servers "
                               "WHERE id = ?2 ON CONFLICT DO UPDATE SET is_group = excluded.is_group",
        [QUERY_AUDIENCE_DELETE] = "DELETE FROM audiences WHERE name = ?1 AND server_id = ?2",
        [QUERY_AUDIENCES] = "SELECT name, is_group FROM audiences WHERE server_id = ?1 ORDER BY name",
        [QUERY_AUDIENCE_SERVERS] = "SELECT a.is_group, " SERVER_COLUMNS " FROM audiences a CROSS JOIN servers s "
                                   "WHERE a.name = ?1 AND s.id = a.server_id AND NOT s.suspended "
                                   "ORDER BY a.server_id",
        [QUERY_AUDIENCE_ONLY] = "SELECT (SELECT min(name) FROM audiences), (SELECT max(name) FROM audiences)",
        [QUERY_AUDIENCE_SERVER] = "SELECT " SERVER_COLUMNS " FROM audiences a CROSS JOIN servers s "
                                  "WHERE a.name = ?1 AND s.id = a.server_id ORDER BY a.server_id LIMIT 1",
        [QUERY_GROUP_CONFLICT] = "SELECT a.name, o.name FROM servers s CROSS JOIN audiences a CROSS JOIN audiences b "
                                 "CROSS JOIN servers o WHERE s.id = ?1 AND NOT s.suspended AND a.server_id = s.id "
                                 "AND a.is_group AND b.name = a.name AND o.id = b.server_id AND NOT o.suspended "
                                 "AND (o.sign_alg <> s.sign_alg OR o.scope_kind <> s.scope_kind) LIMIT 1",
        [QUERY_SERVER_KEY_COUNT] = "SELECT count(*), coalesce(sum(secret_mark = ?3 AND active_from_s <= ?4), 0) "
                                   "FROM server_keys WHERE server_id = ?1 AND role = ?2",
        [QUERY_SERVER_KEY_REPLACE] = "DELETE FROM server_keys WHERE server_id = ?1 AND role = ?2 AND "
                                     "(secret_mark = ?3 OR active_from_s > ?4)",
        [QUERY_SERVER_KEY_SET] = "INSERT INTO server_keys (id, server_id, role, kid, secret, secret_mark, "
                                 "active_from_s, created_s) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        [QUERY_SERVER_KEY_GET] = "SELECT id, kid, secret, active_from_s, created_s FROM server_keys "
                                 "WHERE server_id = ?1 AND role = ?2 AND active_from_s <= ?3 "
                                 "ORDER BY active_from_s DESC, id DESC LIMIT 1",
        [QUERY_SERVER_KEY_EARLIEST] = "SELECT id, kid, secret, active_from_s, created_s FROM server_keys "
                                      "WHERE server_id = ?1 AND role = ?2 ORDER BY active_from_s LIMIT 1",
        [QUERY_SERVER_KEYS] = "SELECT id, role, kid, active_from_s, created_s FROM server_keys WHERE server_id = ?1 "
                              "ORDER BY role, active_from_s, id",
        [QUERY_SERVER_KEYS_DROP] = "DELETE FROM server_keys AS k WHERE server_id = ?1 AND EXISTS (SELECT 1 FROM "
                                   "server_keys n WHERE n.server_id = ?1 AND n.role = k.role "
                                   "AND (n.active_from_s, n.id) > (k.active_from_s, k.id) "
                                   "AND n.active_from_s <= ?2)",
        [QUERY_EXI_NEXT] = "UPDATE servers SET exi_next = exi_next + 1 WHERE id = ?1 RETURNING exi_next - 1",

        [QUERY_SECRET_TAKEN] = "SELECT 1 FROM credentials WHERE secret_mark = ?1 UNION ALL "
                               "SELECT 1 FROM server_keys WHERE secret_mark = ?1 AND server_id <> ?2",
        [QUERY_CREDENTIAL_ADD] = "INSERT INTO credentials (id, kind, client_id, server_id, identity, secret, "
                                 "secret_mark, created_s, public, kid) "
                                 "VALUES (?1, ?2, nullif(?3, 0), nullif(?4, 0), ?5, ?6, ?7, ?8, ?9, nullif(?10, x''))",
        [QUERY_CREDENTIAL_DELETE] = "DELETE FROM credentials WHERE id = ?1 AND client_id IS nullif(?2, 0) "
                                    "AND server_id IS nullif(?3, 0)",
        [QUERY_CREDENTIALS_OF_CLIENT] = "SELECT " CREDENTIAL_COLUMNS " FROM credentials WHERE client_id = ?1 "
                                        "ORDER BY id",
        [QUERY_CREDENTIALS_OF_SERVER] = "SELECT " CREDENTIAL_COLUMNS " FROM credentials WHERE server_id = ?1 "
                                        "ORDER BY id",
        [QUERY_CREDENTIAL_FIND] = "SELECT " CREDENTIAL_COLUMNS ", secret, "
                                  "coalesce((SELECT suspended FROM clients c WHERE c.id = client_id), "
                                  "(SELECT suspended FROM servers s WHERE s.id = server_id)) "
                                  "FROM credentials WHERE kind = ?1 AND identity = ?2",
        [QUERY_CREDENTIAL_BY_KID] = "SELECT " CREDENTIAL_COLUMNS " FROM credentials WHERE client_id = ?1 AND kid = ?2",
        [QUERY_SERVER_KEY_SECRET] = "SELECT secret FROM server_keys WHERE id = ?1",
        [QUERY_CREDENTIAL_SECRET] = "SELECT secret FROM credentials WHERE id = ?1 AND length(secret) > 0",
        [QUERY_CREDENTIAL_BY_ID] = "SELECT " CREDENTIAL_COLUMNS " FROM credentials WHERE id = ?1",

        [QUERY_OSCORE_ADD] = "INSERT INTO oscore_contexts (credential_id, recipient_id, sender_id, id_context, alg, "
                             "hkdf, salt, renews) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        [QUERY_OSCORE_OF_CREDENTIAL] = "SELECT " OSCORE_COLUMNS("o") " FROM oscore_contexts o WHERE credential_id = ?1",
        [QUERY_OSCORE_OF_PARTY] = "SELECT c.id, o.recipient_id FROM credentials c CROSS JOIN oscore_contexts o "
                                  "WHERE c.client_id = ?1 AND ?3 IN (0, c.id) AND o.credential_id = c.id UNION ALL "
                                  "SELECT c.id, o.recipient_id FROM credentials c CROSS JOIN oscore_contexts o "
                                  "WHERE c.server_id = ?2 AND ?3 IN (0, c.id) AND o.credential_id = c.id",
        [QUERY_OSCORE_OF_KID] = "SELECT count(*), coalesce(sum(" CONTEXT_IS("o") "), 0) FROM oscore_contexts o "
                                "WHERE o.recipient_id = ?1",
        [QUERY_OSCORE_FIND] = "SELECT c.id, c.client_id, c.server_id, c.secret, o.renewed_context, "
                              OSCORE_COLUMNS("o") " FROM oscore_contexts o CROSS JOIN credentials c "
                              "WHERE o.recipient_id = ?1 AND c.id = o.credential_id AND NOT " IS_SUSPENDED("c")
                              " ORDER BY o.credential_id",
        [QUERY_OSCORE_TAKEN] = "SELECT 1 FROM oscore_contexts o CROSS JOIN oscore_contexts a WHERE "
                               "o.credential_id = ?1 AND a.recipient_id = o.recipient_id AND a.credential_id <> ?1 "
                               "AND " CONTEXT_IS("a") " LIMIT 1",
        [QUERY_OSCORE_RENEW] = "UPDATE oscore_contexts SET renewed_context = ?2 WHERE credential_id = ?1",
        [QUERY_OSCORE_LEASE] = "UPDATE leases SET next = next + ?1 WHERE kind = 3 AND next <= ?2 RETURNING next",
        [QUERY_OSCORE_NEXT] = "SELECT next FROM leases WHERE kind = 3",
        [QUERY_OSCORE_RAISE] = "UPDATE leases SET next = ?1 WHERE kind = 3 AND next < ?1",

        [QUERY_AS_KEY_ADD] = "INSERT INTO as_keys (id, role, alg, kid, public, secret, certificate, active_from_s, "
                             "created_s) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        [QUERY_AS_KEY_DELETE] = "DELETE FROM as_keys WHERE id = ?1",
        [QUERY_AS_KEY_COUNT] = "SELECT count(*) FROM as_keys",
        /* a clock set back before all of them leaves the earliest in force */
        [QUERY_AS_KEY_CURRENT] = "SELECT " AS_KEY_COLUMNS ", secret FROM as_keys WHERE role = ?1 AND alg = ?2 "
                                 "ORDER BY active_from_s > ?3, abs(active_from_s - ?3), id DESC LIMIT 1",
        [QUERY_AS_KEYS] = "SELECT " AS_KEY_COLUMNS " FROM as_keys ORDER BY role, alg, active_from_s, id",

        [QUERY_POLICY_ADD] = "INSERT INTO policies (" POLICY_COLUMNS ", created_s) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, "
                             "?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        [QUERY_POLICY_DELETE] = "DELETE FROM policies WHERE id = ?1",
        [QUERY_POLICIES] = "SELECT " POLICY_COLUMNS ", created_s FROM policies WHERE id > ?1 ORDER BY id LIMIT ?2",
        [QUERY_POLICIES_OF_SUBJECT] = "SELECT " POLICY_COLUMNS ", created_s FROM policies WHERE for_label IN (0, 1) "
                                      "AND subject = ?3 AND +id > ?1 ORDER BY +id LIMIT ?2",
        [QUERY_POLICIES_AT_AUDIENCE] = "SELECT " POLICY_COLUMNS ", created_s FROM policies "
                                       "INDEXED BY policies_at_audience WHERE audience = ?4 AND id > ?1 "
                                       "ORDER BY id LIMIT ?2",
        [QUERY_POLICIES_OF_SUBJECT_AT_AUDIENCE] = "SELECT " POLICY_COLUMNS ", created_s FROM policies "
                                                  "WHERE for_label IN (0, 1) AND subject = ?3 AND +audience = ?4 "
                                                  "AND +id > ?1 ORDER BY +id LIMIT ?2",

        [QUERY_ASKER] = "SELECT cr.server_id, " CLIENT_COLUMNS("c") " FROM credentials cr "
                        "LEFT JOIN clients c ON c.id = cr.client_id WHERE cr.id = ?1",
        [QUERY_POLICIES_FOR_CLIENT] = POLICIES_AT,
        [QUERY_POLICIES_AND_VARYING] = POLICIES_AT " UNION ALL "
                                       "SELECT " POLICY_COLUMNS " FROM policies INDEXED BY policies_varying "
                                       "WHERE for_label = 0 AND subject = ?1 AND audience_varies = 1 UNION ALL "
                                       "SELECT " POLICY_COLUMNS " FROM client_labels l CROSS JOIN policies p "
                                       "INDEXED BY policies_varying WHERE l.client_id = ?3 AND p.for_label = 1 "
                                       "AND p.subject = l.label AND p.audience_varies = 1",
        [QUERY_KEY_BY_KID] = "SELECT number, pop_key, osc FROM tokens WHERE number = ?1 AND key_number = ?1 "
                             "AND client_id = ?2 AND server_id = ?3 AND revoked_s = 0 AND expires_s > ?4 UNION ALL "
                             "SELECT number, pop_key, osc FROM tokens INDEXED BY tokens_sharing_key "
                             "WHERE key_number = ?1 AND key_number <> number "
                             "AND client_id = ?2 AND server_id = ?3 AND revoked_s = 0 AND expires_s > ?4",
        [QUERY_KEY_BY_CLIENTS_KID] = "SELECT public FROM tokens WHERE client_id = ?1 AND kid = ?2 AND kid IS NOT NULL "
                                     "AND revoked_s = 0 AND expires_s > ?3 ORDER BY number DESC LIMIT 1",
        [QUERY_TOKENS_LIVE] = "SELECT count(*) FROM (SELECT 1 FROM tokens WHERE client_id = ?1 AND revoked_s = 0 "
                              "AND +expires_s > ?2 LIMIT ?3)",
        [QUERY_TOKEN_ADD] = "INSERT INTO tokens (number, key_number, hash, client_id, server_id, audience, scope, "
                            "profile, issued_s, expires_s, revoked_s, pop_key, public, kid, exi, nbf_s, cnonce, "
                            "family, trl_hash, osc) "
                            "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, ?11, ?12, ?13, ?14, ?15, ?16, ?17, "
                            "?18, ?19)",
        [QUERY_TOKEN_FIND] = "SELECT " TOKEN_COLUMNS ", t.pop_key FROM " TOKEN_TABLES "WHERE t.number = ?1",
        [QUERY_TOKEN_FIND_BY_EXI] = "SELECT " TOKEN_COLUMNS ", t.pop_key FROM " TOKEN_TABLES
                                    "WHERE t.server_id = ?1 AND t.exi = ?2 AND t.exi <> 0",
        [QUERY_TOKEN_BY_NUMBER] = "SELECT " TOKEN_COLUMNS " FROM " TOKEN_TABLES "WHERE t.number = ?1",
        [QUERY_AUDIENCE_HAS] = "SELECT 1 FROM audiences WHERE name = ?1 AND server_id = ?2",
        [QUERY_TOKEN_REVOKE] = "UPDATE tokens SET revoked_s = ?2 WHERE number = ?1 AND revoked_s = 0",
        [QUERY_PARTY_ID] = "SELECT id FROM clients WHERE NOT ?2 AND name = ?1 UNION ALL "
                           "SELECT id FROM servers WHERE ?2 AND name = ?1 UNION ALL "
                           "SELECT * FROM (SELECT id FROM gone WHERE name = ?1 AND is_server = ?2 "
                           "ORDER BY id DESC LIMIT 1)",
        [QUERY_TOKENS] = "SELECT " TOKEN_COLUMNS " FROM " TOKEN_TABLES "WHERE t.number > ?1 AND t.issued_s >= ?7 AND "
                         TOKEN_LIVE "ORDER BY t.number LIMIT ?2",
        [QUERY_TOKENS_OF_CLIENT] = "SELECT " TOKEN_COLUMNS " FROM " TOKEN_TABLES "WHERE t.client_id = ?5 AND "
                                   "t.number > ?1 AND (?6 = 0 OR t.server_id = ?6) AND t.issued_s >= ?7 AND "
                                   "(?8 = 0 OR t.expires_s <= ?8) AND " TOKEN_LIVE "ORDER BY t.number LIMIT ?2",
        [QUERY_TOKENS_OF_SERVER] = "SELECT " TOKEN_COLUMNS " FROM " TOKEN_TABLES "WHERE t.server_id = ?6 AND "
                                   "t.number > ?1 AND t.issued_s >= ?7 AND " TOKEN_LIVE "ORDER BY t.number LIMIT ?2",
        [QUERY_TOKENS_BY_END] = "SELECT " TOKEN_COLUMNS " FROM " TOKEN_TABLES "WHERE "
                                "(t.expires_s, t.number) > (?9, ?1) AND t.expires_s <= ?8 AND "
                                "(?6 = 0 OR t.server_id = ?6) AND t.issued_s >= ?7 AND " TOKEN_LIVE
                                "ORDER BY t.expires_s, t.number LIMIT ?2",
        [QUERY_TOKEN_FROM] = "SELECT number, issued_s FROM tokens WHERE number >= ?1 ORDER BY number LIMIT 1",
        [QUERY_TOKENS_PURGE] = "DELETE FROM tokens WHERE number IN (SELECT number FROM tokens WHERE expires_s < ?1 "
                               "ORDER BY expires_s LIMIT ?2)",
        [QUERY_TOKEN_DELETE] = "DELETE FROM tokens WHERE number = ?1",
        [QUERY_GONE_PURGE] = "DELETE FROM gone WHERE id IN (SELECT id FROM gone WHERE until_s < ?1 "
                             "ORDER BY until_s LIMIT ?2)",

        [QUERY_AUDIT_ADD] = "INSERT INTO audit (seq, at_s, record, hash) VALUES (?1, ?2, ?3, ?4)",
        [QUERY_AUDIT_HEAD] = "SELECT seq, hash FROM audit WHERE seq = (SELECT max(seq) FROM audit)",
        [QUERY_AUDIT_EACH] = "SELECT seq, at_s, record, hash FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        [QUERY_AUDIT_FROM] = "SELECT seq, at_s FROM audit WHERE seq >= ?1 ORDER BY seq LIMIT 1",
        [QUERY_AUDIT_START_GET] = "SELECT value FROM meta WHERE name = 'audit_start'",
        [QUERY_AUDIT_START_SET] = "INSERT INTO meta (name, value) VALUES ('audit_start', ?1) "
                                  "ON CONFLICT DO UPDATE SET value = excluded.value",
        [QUERY_AUDIT_LAST_OLD] = "SELECT seq, hash FROM (SELECT seq, at_s, hash FROM audit WHERE seq > 0 "
                                 "ORDER BY seq LIMIT ?2) "
                                 "WHERE at_s < ?1 AND seq < (SELECT max(seq) FROM audit) ORDER BY seq DESC LIMIT 1",
        [QUERY_AUDIT_PURGE] = "DELETE FROM audit WHERE seq <= ?1",

        [QUERY_REVOCATION_OF_ONE] = "SELECT " REVOCATION_COLUMNS " FROM tokens WHERE number = ?1",
        [QUERY_REVOCATION_OF_FAMILY] = "SELECT " REVOCATION_COLUMNS " FROM tokens WHERE family = ?1 AND family <> 0 "
                                       "AND revoked_s = 0",
        [QUERY_REVOCATION_OF_CLIENT] = "SELECT " REVOCATION_COLUMNS " FROM tokens WHERE client_id = ?1 "
                                       "AND number > ?2 ORDER BY number LIMIT ?3",
        [QUERY_REVOCATION_OF_SERVER] = "SELECT " REVOCATION_COLUMNS " FROM tokens WHERE server_id = ?1 "
                                       "AND number > ?2 ORDER BY number LIMIT ?3",
        [QUERY_CLIENT_OF_LABEL] = "SELECT client_id FROM client_labels WHERE label = ?1 AND client_id >= ?2 "
                                  "ORDER BY client_id LIMIT 1",
        [QUERY_REFRESH_TOKENS_OF_CLIENT] = "SELECT " REFRESH_COLUMNS " FROM refresh_tokens WHERE client_id = ?1 "
                                           "AND number > ?2 ORDER BY number LIMIT ?3",
        [QUERY_REFRESH_TOKENS_OF_SERVER] = "SELECT " REFRESH_COLUMNS " FROM refresh_tokens WHERE server_id = ?1 "
                                           "AND number > ?2 ORDER BY number LIMIT ?3",
        [QUERY_REFRESH_TOKEN_REVOKE] = "UPDATE refresh_tokens SET revoked_s = ?2 WHERE number = ?1",
        [QUERY_AUDIENCE_MEMBERS] = "SELECT server_id FROM audiences WHERE name = ?1",
        [QUERY_TRL_TOKENS_OF_SERVER] = "SELECT " REVOCATION_COLUMNS " FROM tokens INDEXED BY tokens_of_server_in_trl "
                                       "WHERE server_id = ?1 AND trl_hash IS NOT NULL AND number > ?2 "
                                       "ORDER BY number LIMIT ?3",
        [QUERY_TRL_ADD] = "INSERT INTO trl (number, hash, client_id, server_id, audience, expires_s) "
                          "VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        [QUERY_TRL_REMOVE] = "DELETE FROM trl WHERE number = ?1",
        /* ?2 is the place that there is none of */
        [QUERY_TRL_EXPIRED] = "SELECT number, client_id, server_id, audience, expires_s, 0, hash FROM trl "
                              "WHERE expires_s <= ?1 AND number > ?2 ORDER BY expires_s LIMIT ?3",
        [QUERY_TRL] = "SELECT hash FROM trl WHERE ?1 = 0 ORDER BY number LIMIT ?2",
        [QUERY_TRL_OF_CLIENT] = "SELECT hash FROM trl WHERE client_id = ?1 ORDER BY number LIMIT ?2",
        [QUERY_TRL_OF_SERVER] = "SELECT hash FROM trl WHERE server_id = ?1 UNION ALL "
                                "SELECT hash FROM audiences a CROSS JOIN trl ON trl.server_id = 0 "
                                "AND trl.audience = a.name WHERE a.server_id = ?1 LIMIT ?2",
        [QUERY_TRL_COUNT] = "SELECT count(*) FROM (SELECT 1 FROM trl WHERE client_id = ?1 LIMIT ?2)",
        [QUERY_TRL_LIST] = "SELECT t.number, t.client_id, t.server_id, t.audience, t.expires_s, 0, t.hash, "
                           "coalesce(c.name, gc.name, ''), coalesce(s.name, gs.name, '') FROM trl t "
                           "LEFT JOIN clients c ON c.id = t.client_id LEFT JOIN servers s ON s.id = t.server_id "
                           "LEFT JOIN gone gc ON gc.id = t.client_id LEFT JOIN gone gs ON gs.id = t.server_id "
                           "WHERE t.number > ?1 ORDER BY t.number LIMIT ?2",
        [QUERY_TRL_ITEM_ADD] = "INSERT INTO trl_updates (party_id, item, removed, added) SELECT ?1, "
                               "coalesce((SELECT max(item) + 1 FROM trl_updates WHERE party_id = ?1), 0), ?2, ?3 "
                               "WHERE ?1 = 0 OR EXISTS (SELECT 1 FROM clients WHERE id = ?1) "
                               "OR EXISTS (SELECT 1 FROM servers WHERE id = ?1)",
        [QUERY_TRL_ITEMS_PRUNE] = "DELETE FROM trl_updates WHERE party_id = ?1 AND item <= "
                                  "(SELECT max(item) FROM trl_updates WHERE party_id = ?1) - ?2",
        [QUERY_TRL_ITEMS_DELETE] = "DELETE FROM trl_updates WHERE party_id = ?1",
        [QUERY_TRL_ITEMS] = "SELECT coalesce((SELECT min(item) FROM trl_updates WHERE party_id = ?1), -1), "
                            "coalesce((SELECT max(item) FROM trl_updates WHERE party_id = ?1), -1)",
        [QUERY_TRL_ITEMS_EACH] = "SELECT item, removed, added FROM trl_updates WHERE party_id = ?1 "
                                 "AND item BETWEEN ?2 AND ?3 ORDER BY item DESC",
        [QUERY_GONE_NOT_IN_TRL] = "SELECT id, is_server, trl_after FROM gone WHERE trl_after IS NOT NULL LIMIT 1",
        [QUERY_GONE_TRL_AFTER] = "UPDATE gone SET trl_after = nullif(?2, -1) WHERE id = ?1",

        [QUERY_REFRESH_TOKEN_ADD] = "INSERT INTO refresh_tokens (number, family, hash, client_id, server_id, audience, "
                                    "scope, key_number, pop_key, public, kid, issued_s, expires_s, used_s, revoked_s, "
                                    "osc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0, 0, ?14)",
        [QUERY_REFRESH_TOKEN_FIND] = "SELECT number, family, hash, client_id, server_id, audience, scope, key_number, "
                                     "public, kid, issued_s, expires_s, used_s, revoked_s, pop_key, osc "
                                     "FROM refresh_tokens WHERE number = ?1",
        [QUERY_REFRESH_TOKEN_USE] = "UPDATE refresh_tokens SET used_s = ?2 WHERE number = ?1 AND used_s = 0",
        /* ?2 of those used are kept, the last ones: the one after them and all before it go */
        [QUERY_REFRESH_TOKENS_FORGET] = "DELETE FROM refresh_tokens WHERE family = ?1 AND used_s <> 0 AND number <= "
                                        "(SELECT number FROM refresh_tokens WHERE family = ?1 AND used_s <> 0 "
                                        "ORDER BY number DESC LIMIT 1 OFFSET ?2)",
        [QUERY_REFRESH_TOKENS_LIVE] = "SELECT count(*) FROM (SELECT 1 FROM refresh_tokens WHERE client_id = ?1 "
                                      "AND used_s = 0 AND revoked_s = 0 AND expires_s > ?2 LIMIT ?3)",
        [QUERY_REFRESH_FAMILY_REVOKE] = "UPDATE refresh_tokens SET revoked_s = ?2 WHERE family = ?1 AND revoked_s = 0",
        [QUERY_REFRESH_TOKENS_PURGE] = "DELETE FROM refresh_tokens WHERE number IN (SELECT number FROM refresh_tokens "
                                       "WHERE expires_s < ?1 ORDER BY expires_s LIMIT ?2)",
};

const char *query_sql(enum query_id id) {
        return table[id];
}

static int failure_to_errno(sqlite3 *db, int code) {
        switch (code) {
        case SQLITE_IOERR_NOMEM:
                return -ENOMEM;
        case SQLITE_IOERR_WRITE:
        case SQLITE_IOERR_FSYNC:
        case SQLITE_IOERR_SHMSIZE:
        case SQLITE_IOERR_TRUNCATE:
                if (sqlite3_system_errno(db) == ENOSPC || sqlite3_system_errno(db) == EDQUOT)
                        return -ENOSPC;
                return -EIO;
        }
        switch (code & 0xff) {
        case SQLITE_NOMEM:
                return -ENOMEM;
        case SQLITE_FULL:
                return -ENOSPC;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
        case SQLITE_PROTOCOL:
                return -EBUSY;
        default:
                return -EIO;
        }
}

int store_failure(struct store *store, int code) {
        store->error = failure_to_errno(store->db, code);
        return store->error;
}

int store_changed(const struct store *store) {
        return sqlite3_changes64(store->db) > 0 ? 0 : REFUSE_ADMIN_UNKNOWN;
}

int query_prepare(struct store *store, enum query_id id) {
        int code;

        if (store->queries[id])
                return 0;
        code = sqlite3_prepare_v3(store->db, table[id], -1, SQLITE_PREPARE_PERSISTENT, &store->queries[id], NULL);
        return code == SQLITE_OK ? 0 : store_failure(store, code);
}

int query_begin(struct store *store, enum query_id id, struct query *ret) {
        int r = query_prepare(store, id);

        if (r != 0)
                return r;
        if (store->origin && sqlite3_get_autocommit(store->db))
                return -EIO; /* a snapshot that has ended: what it read now would be of another moment */
        if (sqlite3_stmt_busy(store->queries[id]))
                return -EIO;
        if (id != QUERY_BEGIN && !sqlite3_stmt_readonly(store->queries[id])) {
                if (sqlite3_get_autocommit(store->db))
                        return store->in_transaction && store->error != 0 ? store->error : -EIO;
                if ((r = savepoint_before(store, id)) != 0)
                        return r;
        }

        *ret = (struct query){ .store = store, .stmt = store->queries[id] };
        return 0;
}

void query_done(struct query *query) {
        if (!query->stmt)
                return;
        (void)sqlite3_reset(query->stmt);
        (void)sqlite3_clear_bindings(query->stmt);
        query->stmt = NULL;
}

static void bound(struct query *query, int code) {
        if (code != SQLITE_OK && query->error == SQLITE_OK)
                query->error = code;
}

void query_int(struct query *query, int at, int64_t value) {
        bound(query, sqlite3_bind_int64(query->stmt, at, value));
}

void query_text(struct query *query, int at, struct bytes value) {
        const char *text = value.data ? (const char *)value.data : "";

        bound(query, sqlite3_bind_text64(query->stmt, at, text, value.size, SQLITE_STATIC, SQLITE_UTF8));
}

void query_blob(struct query *query, int at, struct bytes value) {
        /* a NULL pointer would bind NULL, not an empty string of bytes */
        bound(query, sqlite3_bind_blob64(query->stmt, at, value.data ? (const void *)value.data : "", value.size,
                                         SQLITE_STATIC));
}

void query_optional(struct query *query, int at, struct bytes value) {
        if (value.data)
                query_blob(query, at, value);
        else
                bound(query, sqlite3_bind_null(query->stmt, at));
}

void query_scope(struct query *query, int at, const struct scope *scope) {
        if (scope->kind == SCOPE_TEXT || scope->kind == SCOPE_AIF)
                query_text(query, at, scope_bytes(scope));
        else if (scope->kind == SCOPE_BYTES)
                query_blob(query, at, scope_bytes(scope));
        else
                bound(query, sqlite3_bind_null(query->stmt, at));
}

int query_next(struct query *query) {
        int code = query->error != SQLITE_OK ? query->error : sqlite3_step(query->stmt);

        if (code == SQLITE_ROW)
                return 0;
        if (code == SQLITE_DONE)
                return REFUSE_ADMIN_UNKNOWN;
        return store_failure(query->store, code);
}

int query_run(struct query *query) {
        int code = query->error;

        while (code == SQLITE_OK || code == SQLITE_ROW)
                code = sqlite3_step(query->stmt);

        if (code == SQLITE_DONE)
                return 0;
        if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY)
                return REFUSE_ADMIN_EXISTS;
        if (code == SQLITE_CONSTRAINT_FOREIGNKEY)
                return REFUSE_ADMIN_UNKNOWN;
        return store_failure(query->store, code);
}

int query_simple(struct store *store, enum query_id id) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, id, &q);

        return r != 0 ? r : query_run(&q);
}

int query_about(struct store *store, enum query_id id, int64_t about) {
        _cleanup_(query_done) struct query q = {};
        int r = query_begin(store, id, &q);

        if (r != 0)
                return r;
        query_int(&q, 1, about);
        return query_run(&q);
}

int64_t row_int(struct query *query, int at) {
        return sqlite3_column_int64(query->stmt, at);
}

bool row_is_null(struct query *query, int at) {
        return sqlite3_column_type(query->stmt, at) == SQLITE_NULL;
}

struct bytes row_bytes(struct query *query, int at) {
        const void *data = sqlite3_column_blob(query->stmt, at); /* before its size: that is the documented order */

        return (struct bytes){ data, (size_t)sqlite3_column_bytes(query->stmt, at) };
}

int row_text(struct query *query, int at, char *ret, size_t size) {
        struct bytes text = row_bytes(query, at);

        if (text.size >= size || (text.size > 0 && !text.data))
                return -EIO;
        if (text.size > 0)
                memcpy(ret, text.data, text.size);
        ret[text.size] = '\0';
        return 0;
}

int row_scope(struct query *query, int at, struct scope *ret) {
        int type = sqlite3_column_type(query->stmt, at);
        struct bytes value;

        ret->kind = type == SQLITE_TEXT ? SCOPE_TEXT : SCOPE_BYTES;
        ret->size = 0;
        if (type == SQLITE_NULL) {
                ret->kind = SCOPE_NONE;
                return 0;
        }
        value = row_bytes(query, at);
        if ((type != SQLITE_TEXT && type != SQLITE_BLOB) || !value.data || value.size > SCOPE_SIZE_MAX)
                return -EIO;
        if (type == SQLITE_TEXT && value.data[0] == AIF_MARK)
                ret->kind = SCOPE_AIF;
        memcpy(ret->data, value.data, value.size);
        ret->size = value.size;
        return 0;
}

int row_secret(struct query *query, int at, const char *column, int64_t row, struct secret *ret) {
        int r = store_unseal(query->store, column, row, row_bytes(query, at), ret);

        return r == -EBADMSG ? -EIO : r; /* somebody changed the file */
}
