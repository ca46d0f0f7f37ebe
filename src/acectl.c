/*
 * acectl: one row of the verb table → one request on aced's control socket → a table, JSON or CSV. It holds no rules:
 * what is allowed aced decides. Only `init` and `config check` work without a running aced.
 */
#include "config.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <libgen.h>
#include <locale.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/diag.h"
#include "base/secret.h"
#include "format/json.h"
#include "main/audit.h"
#include "main/bulk.h"
#include "main/invocation.h"
#include "main/key_file.h"
#include "main/policy_test.h"
#include "main/print.h"
#include "main/revoke.h"
#include "store/as_keys.h"
#include "store/check.h"
#include "store/seal_key.h"
#include "store/store.h"

/* where systemd makes it for the unit, whatever the prefix; aced.conf(5) has the same default */
#define SOCKET_DEFAULT "/run/aced/control.sock"
#define CONFIG_DEFAULT ACED_SYSCONFDIR "/aced/aced.conf"
#define SUGGEST_DISTANCE_MAX 3 /* edits between what was typed and what may have been meant */

/* ---- the verbs */

#define NO_VALUE NULL

static const struct option client_options[] = {
        { "--profile", "profiles", OPTION_LIST, "PROFILE", "an ACE profile it can use (coap_dtls)" },
        { "--default-audience", "default_audience", OPTION_TEXT, "AUDIENCE", "for requests that name none" },
        { "--label", "labels", OPTION_LIST, "LABEL", "a name that policies can be for" },
        { "--max-lifetime", "max_lifetime_s", OPTION_INT, "SECONDS", "of its tokens; 0: no limit of its own" },
        { "--tokens-max", "tokens_max", OPTION_INT, "N", "that it may have at a time; 0: as configured" },
        { "--refresh-lifetime", "refresh_lifetime_s", OPTION_INT, "SECONDS", "of its refresh tokens; 0: it gets none" },
        { "--introspect", "may_introspect", OPTION_BOOL, "yes|no", "whether it may ask about its own tokens" },
        {},
};

#define SERVER_OPTIONS                                                                                                \
        { "--audience", "audiences", OPTION_LIST, "AUDIENCE", "a name tokens are asked for; at first its own name" }, \
        { "--group-audience", "group_audiences", OPTION_LIST, "AUDIENCE", "one that it shares with other servers" },  \
        { "--profile", "profiles", OPTION_LIST, "PROFILE", "an ACE profile it can use (coap_dtls)" },                 \
        { "--scope", "scopes", OPTION_TEXT, "SCOPE", "all it knows: \"read write\", or hex:0102 for bytes" },         \
        { "--scope-kind", "scope_kind", OPTION_TEXT, "text|bytes|aif", "the form of its scopes" },                    \
        { "--default-scope", "default_scope", OPTION_TEXT, "SCOPE", "granted when none is asked for" },               \
        { "--token-format", "token_format", OPTION_TEXT, "FORMAT", "encrypt0, mac0, sign1, sign-encrypt, opaque" },   \
        { "--token-alg", "token_alg", OPTION_TEXT, "ALGORITHM", "what encrypts or MACs them: AES-CCM-16-64-128, ..." },\
        { "--wrap-alg", "wrap_alg", OPTION_TEXT, "ALGORITHM", "what encrypts symmetric keys in tokens of mac0" },     \
        { "--sign-alg", "sign_alg", OPTION_TEXT, "ALGORITHM", "what signs tokens: ES256, ES384 or EdDSA" },           \
        { "--token-tagged", "token_tagged", OPTION_BOOL, "yes|no", "tokens with the CBOR tag 61 and COSE's" },        \
        { "--trl", "trl", OPTION_BOOL, "yes|no", "whether its tokens are in the revocation list" },                   \
        { "--pop-key", "pop_keys", OPTION_LIST, "KIND", "it can use: symmetric, P-256, P-384, Ed25519, X25519" },     \
        { "--derive-key", "derives_key", OPTION_BOOL, "yes|no", "whether it computes symmetric keys from tokens" },   \
        { "--token-key-hex", "token_key_hex", OPTION_TEXT, "HEX", "the key that protects tokens" },                   \
        { "--token-kid-hex", "token_kid_hex", OPTION_TEXT, "HEX", "its key id, named in every token" },               \
        { "--default-lifetime", "default_lifetime_s", OPTION_INT, "SECONDS", "of its tokens; 0: as configured" },     \
        { "--max-lifetime", "max_lifetime_s", OPTION_INT, "SECONDS", "of its tokens; 0: as configured" },             \
        { "--clock", "has_clock", OPTION_BOOL, "yes|no", "whether it can judge when a token expires" },               \
        { "--prefer-profile", "preferred_profile", OPTION_TEXT, "PROFILE", "where a client has several; \"\": none" }, \
        { "--oscore-alg", "oscore_alg", OPTION_TEXT, "ALGORITHM", "of its contexts: AES-CCM-16-64-128, ..." },        \
        { "--oscore-hkdf", "oscore_hkdf", OPTION_TEXT, "SHA-256|SHA-512", "the hash of their key derivation" }

static const struct option server_options[] = { SERVER_OPTIONS, {} };

static const struct option credential_options[] = {
        { "--kind", "kind", OPTION_TEXT, "psk|rpk|x509|oscore", "what it is; else what the other options show" },
        { "--identity", "identity", OPTION_TEXT, "TEXT", "the PSK identity; at first the name" },
        { "--identity-hex", "identity_hex", OPTION_TEXT, "HEX", "the same as bytes" },
        { "--key-hex", "key_hex", OPTION_TEXT, "HEX", "the key, 16 to 64 bytes; made when not given" },
        { "--public-key", "public_key_hex", OPTION_PUBLIC_KEY_FILE, "FILE", "a raw public key, from a PEM file" },
        { "--public-key-hex", "public_key_hex", OPTION_TEXT, "HEX", "the same: COSE_Key, or SubjectPublicKeyInfo" },
        { "--kid-hex", "kid_hex", OPTION_TEXT, "HEX", "what a client may call that key in req_cnf" },
        { "--match", "match", OPTION_TEXT, "RULE", "certificates with this dns:, uri:, email:, ip:, subject:, spki:" },
        { "--certificate", "match", OPTION_RULE_FILE, "FILE", "certificates with the key of this one, a PEM file" },
        { "--secret-hex", "master_secret_hex", OPTION_TEXT, "HEX", "OSCORE: the Master Secret, 16 to 64 bytes" },
        { "--salt-hex", "master_salt_hex", OPTION_TEXT, "HEX", "OSCORE: the Master Salt; 8 bytes when not given" },
        { "--sender-id-hex", "sender_id_hex", OPTION_TEXT, "HEX", "OSCORE: what the device sends as kid" },
        { "--recipient-id-hex", "recipient_id_hex", OPTION_TEXT, "HEX", "OSCORE: the ID that is ours, for the device" },
        { "--id-context-hex", "id_context_hex", OPTION_TEXT, "HEX", "OSCORE: the ID Context; none when not given" },
        { "--alg", "alg", OPTION_TEXT, "ALGORITHM", "OSCORE: what encrypts; AES-CCM-16-64-128 when not given" },
        { "--hkdf", "hkdf", OPTION_TEXT, "SHA-256|SHA-512", "OSCORE: the hash of its key derivation" },
        { "--renews", "renews", OPTION_BOOL, "yes|no", "OSCORE: whether the device may renew the context" },
        { "--sender-number", "sender_number", OPTION_INT, "NUMBER", "OSCORE: ours go on from there, or from above" },
        {},
};

static const struct option key_options[] = {
        { "--role", "role", OPTION_TEXT, "ROLE", "token, derivation or wrap; token when not given" },
        { "--key-hex", "key_hex", OPTION_TEXT, "HEX", "the key, of the algorithm's size; made when not given" },
        { "--kid-hex", "kid_hex", OPTION_TEXT, "HEX", "its key id; none when not given" },
        { "--activate-in", "activate_in_s", OPTION_INT, "SECONDS", "announce it: tokens are under it from then on" },
        {},
};

static const struct option policy_options[] = {
        { "--client", "client", OPTION_TEXT, "NAME", "the client it is for" },
        { "--label", "label", OPTION_TEXT, "LABEL", "or all clients with this label" },
        { "--audience", "audience", OPTION_TEXT, "AUDIENCE", "where" },
        { "--scope", "scope", OPTION_TEXT, "SCOPE", "what: \"read write\", hex:0102 for bytes, or aif:/path=GET" },
        { "--effect", "effect", OPTION_TEXT, "allow|deny", "to deny wins; without --scope it is of everything there" },
        { "--shadow", "shadow", OPTION_BOOL, "yes|no", "only tried: told and logged, not enforced" },
        { "--max-lifetime", "max_lifetime_s", OPTION_INT, "SECONDS", "of tokens that rest on it" },
        { "--from", "from_s", OPTION_TIME, "TIME", "not before: 2030-01-31T12:00:00Z, or seconds since 1970" },
        { "--until", "until_s", OPTION_TIME, "TIME", "from then on no more" },
        { "--days", "days", OPTION_TEXT, "DAYS", "of the week, UTC: mon-fri,sun" },
        { "--hours", "hours", OPTION_TEXT, "HOURS", "of those days, UTC: 08:00-18:00; 22:00-06:00 is over midnight" },
        { "--advance", "advance_s", OPTION_INT, "SECONDS", "so long before its time tokens that begin with it are given" },
        {},
};

static const struct option explain_options[] = {
        { "--at", "at", OPTION_TIME, "TIME", "as if it were then" },
        { "--key", "key", OPTION_TEXT, "KEY", "symmetric, or the client's own: P-256, P-384, Ed25519, X25519" },
        { "--channel", "channel", OPTION_TEXT, "dtls|oscore", "over which it would come; dtls when not given" },
        {},
};

static const struct option policy_filter[] = {
        { "--client", "client", OPTION_TEXT, "NAME", "those for this client by name" },
        { "--label", "label", OPTION_TEXT, "LABEL", "those for this label" },
        { "--audience", "audience", OPTION_TEXT, "AUDIENCE", "those for this audience" },
        {},
};

static const struct option token_filter[] = {
        { "--client", "client", OPTION_TEXT, "NAME", "those of this client" },
        { "--rs", "server", OPTION_TEXT, "NAME", "those for this resource server" },
        { "--expiring", "expiring_s", OPTION_INT, "SECONDS", "those that expire within that time" },
        { "--since", "since", OPTION_TIME, "TIME", "those issued then or later" },
        { "--all", "all", OPTION_FLAG, NO_VALUE, "expired and revoked ones too" },
        {},
};

static const struct option audit_filter[] = {
        { "--since", "since", OPTION_TIME, "TIME", "those from then on" },
        { "--actor", "actor", OPTION_TEXT, "NAME", "those of this client, server, address or \"uid 0\"" },
        { "--about", "about", OPTION_TEXT, "NAME", "those that name this client, server, audience, cti or id" },
        {},
};

static const struct option audit_export_options[] = {
        { "--since", "since", OPTION_TIME, "TIME", "rows from then on" },
        {},
};

static const struct option audit_verify_options[] = {
        { "--against", "against", OPTION_TEXT, "SEQ:HASH", "this row must still have this hash, noted earlier" },
        {},
};

static const struct option rotate_options[] = {
        { "--role", "role", OPTION_TEXT, "door|sign", "shown at the DTLS door (that when not given), or signs tokens" },
        { "--alg", "alg", OPTION_TEXT, "ALGORITHM", "ES256 (when not given), EdDSA, or for tokens ES384" },
        { "--overlap", "overlap_s", OPTION_INT, "SECONDS", "until it takes over; a day when not given" },
        {},
};

static const struct option revoke_options[] = {
        { "--client", "client", OPTION_TEXT, "NAME", "all tokens of this client" },
        { "--rs", "server", OPTION_TEXT, "NAME", "all for this resource server, but none for a group audience" },
        { "--label", "label", OPTION_TEXT, "LABEL", "all of clients with this label" },
        {},
};

static const struct option init_options[] = {
        { "--config", "config", OPTION_TEXT, "FILE", "the configuration that says where; else " CONFIG_DEFAULT },
        { "--state", "state", OPTION_TEXT, "DIRECTORY", "or the state directory itself" },
        {},
};

static const struct option no_options[] = { {} };

static const struct print_column client_columns[] = {
        { "name", "NAME" }, { "suspended", "SUSPENDED" }, { "profiles", "PROFILES" }, { "labels", "LABELS" },
        { "default_audience", "DEFAULT AUDIENCE" }, { "created_s", "CREATED" }, {},
};

static const struct print_column server_columns[] = {
        { "name", "NAME" }, { "suspended", "SUSPENDED" }, { "audiences", "AUDIENCES" },
        { "group_audiences", "GROUP AUDIENCES" }, { "profiles", "PROFILES" }, { "scopes", "SCOPES" },
        { "token_format", "TOKENS" }, { "token_alg", "ALGORITHM" }, { "created_s", "CREATED" }, {},
};

static const struct print_column server_key_columns[] = {
        { "id", "ID" }, { "role", "ROLE" }, { "kid_hex", "KID" }, { "state", "STATE" },
        { "active_from_s", "ACTIVE FROM" }, { "created_s", "CREATED" }, {},
};

static const struct print_column credential_columns[] = {
        { "id", "ID" }, { "kind", "KIND" }, { "identity", "IDENTITY" }, { "identity_hex", "IDENTITY AS HEX" },
        { "curve", "CURVE" }, { "thumbprint", "THUMBPRINT" }, { "match", "MATCH" },
        { "sender_id_hex", "SENDER ID" }, { "id_context_hex", "ID CONTEXT" }, { "alg", "ALGORITHM" },
        { "created_s", "CREATED" }, {},
};

static const struct print_column key_columns[] = {
        { "id", "ID" }, { "role", "ROLE" }, { "alg", "ALGORITHM" }, { "state", "STATE" }, { "kid_hex", "KID" },
        { "thumbprint", "THUMBPRINT" }, { "active_from_s", "ACTIVE FROM" }, {},
};

static const struct print_column policy_columns[] = {
        { "id", "ID" }, { "client", "CLIENT" }, { "label", "LABEL" }, { "audience", "AUDIENCE" }, { "scope", "SCOPE" },
        { "effect", "EFFECT" }, { "shadow", "SHADOW" }, { "max_lifetime_s", "MAX LIFETIME" }, { "from_s", "FROM" },
        { "until_s", "UNTIL" }, { "days", "DAYS" }, { "hours", "HOURS" }, { "advance_s", "ADVANCE" }, {},
};

static const struct print_column token_columns[] = {
        { "cti", "CTI" }, { "client", "CLIENT" }, { "server", "RS" }, { "audience", "AUDIENCE" }, { "scope", "SCOPE" },
        { "state", "STATE" }, { "issued_s", "ISSUED" }, { "expires_s", "EXPIRES" }, {},
};

static const struct print_column audit_columns[] = {
        { "seq", "SEQ" }, { "at_s", "AT" }, { "actor", "ACTOR" }, { "action", "ACTION" }, { "object", "OBJECT" },
        { "code", "CODE" }, { "refusal", "REFUSAL" }, { "scope", "SCOPE" }, { "cti", "CTI" },
        { "decision", "DECISION" }, { "why", "WHY" }, {},
};

static const struct print_column trl_columns[] = {
        { "cti", "CTI" }, { "client", "CLIENT" }, { "server", "RS" }, { "audience", "AUDIENCE" },
        { "expires_s", "EXPIRES" }, { "hash", "HASH" }, {},
};

static const struct print_column config_columns[] = {
        { "section", "SECTION" }, { "key", "KEY" }, { "value", "VALUE" }, { "default", "DEFAULT" },
        { "help", "MEANING" }, {},
};

static const struct print_column check_columns[] = { { "fault", "FAULT" }, {} };

static const struct print_column fault_columns[] = {
        { "file", "FILE" }, { "line", "LINE" }, { "fault", "FAULT" }, {},
};

static const struct print_column help_columns[] = {
        { "verb", "VERB" }, { "arguments", "ARGUMENTS" }, { "option", "OPTION" }, { "value", "VALUE" },
        { "help", "MEANING" }, {},
};

static int run_init(struct invocation *invocation);
static int run_backup(struct invocation *invocation);
static int run_check(struct invocation *invocation);
static int run_config_check(struct invocation *invocation);

#define IN_PATH(argument) { .name = (argument) }
#define AS_MEMBER(argument, json) { .name = (argument), .member = (json) }
#define MAYBE(argument, json) { .name = (argument), .member = (json), .optional = true }
#define NAME IN_PATH("NAME")
#define NEW_NAME AS_MEMBER("NAME", "name")

static const struct verb verbs[] = {
        { "init", {}, init_options, .run = run_init,
          .help = "Make the state directory with its sealing key and a database with the server's own keys." },
        { "status", {}, no_options, "GET", "/v1/status",
          .help = "Show what runs, where it listens, figures and limits." },
        { "metrics", {}, no_options, "GET", "/v1/metrics", .is_text = true,
          .help = "Print all figures as text for Prometheus." },

        { "backup", { AS_MEMBER("FILE", "file") }, no_options, "GET", "/v1/backup", .run = run_backup,
          .help = "Copy the database as it is now to a file, while aced serves; the sealing key is not in it." },
        { "check", {}, no_options, "GET", "/v1/check", check_columns, .run = run_check,
          .help = "Check the whole database while aced serves: structure, references, numbers, sealed secrets." },

        { "key list", {}, no_options, "GET", "/v1/keys", key_columns,
          .help = "List the server's own keys, without private parts." },
        { "key show", { IN_PATH("ID") }, no_options, "GET", "/v1/keys/{}",
          .help = "Show one of the server's own keys." },
        { "key pem", { IN_PATH("ID") }, no_options, "GET", "/v1/keys/{}/pem", .is_text = true,
          .help = "Print its public key and certificate, for clients that are to know the server." },
        { "key rotate", {}, rotate_options, "POST", "/v1/keys",
          .help = "Make a key that takes over after an overlap, in which clients and servers can learn of it." },
        { "key delete", { IN_PATH("ID") }, no_options, "DELETE", "/v1/keys/{}",
          .help = "Remove a key that is not in force." },

        { "client add", { NEW_NAME }, client_options, "POST", "/v1/clients", .help = "Register a client." },
        { "client list", {}, no_options, "GET", "/v1/clients", client_columns, .help = "List clients." },
        { "client show", { NAME }, no_options, "GET", "/v1/clients/{}", .help = "Show a client." },
        { "client set", { NAME }, client_options, "PATCH", "/v1/clients/{}", .needs_option = true,
          .help = "Change what is given, keep the rest; an empty value removes." },
        { "client suspend", { NAME }, no_options, "PATCH", "/v1/clients/{}", .fixed = "suspended", .fixed_value = true,
          .help = "Refuse a client until it is resumed; tokens it has stay." },
        { "client resume", { NAME }, no_options, "PATCH", "/v1/clients/{}", .fixed = "suspended",
          .help = "Admit a suspended client again." },
        { "client delete", { NAME }, no_options, "DELETE", "/v1/clients/{}",
          .help = "Remove a client with its credentials and policies, and revoke its tokens." },
        { "client credential add", { NAME }, credential_options, "POST", "/v1/clients/{}/credentials",
          .help = "Give a client a key or a security context, shown once, a public key, or a rule for certificates." },
        { "client credential list", { NAME }, no_options, "GET", "/v1/clients/{}/credentials", credential_columns,
          .help = "List a client's credentials, without keys." },
        { "client credential delete", { NAME, IN_PATH("ID") }, no_options, "DELETE", "/v1/clients/{}/credentials/{}",
          .help = "Remove a client's credential." },

        { "rs add", { NEW_NAME }, server_options, "POST", "/v1/servers",
          .help = "Register a resource server; the key that protects its tokens is shown once." },
        { "rs list", {}, no_options, "GET", "/v1/servers", server_columns, .help = "List resource servers." },
        { "rs show", { NAME }, no_options, "GET", "/v1/servers/{}", .help = "Show a resource server." },
        { "rs set", { NAME }, server_options, "PATCH", "/v1/servers/{}", .needs_option = true,
          .help = "Change what is given, keep the rest; an empty value removes." },
        { "rs suspend", { NAME }, no_options, "PATCH", "/v1/servers/{}", .fixed = "suspended", .fixed_value = true,
          .help = "Issue no tokens for a resource server and refuse it until it is resumed." },
        { "rs resume", { NAME }, no_options, "PATCH", "/v1/servers/{}", .fixed = "suspended",
          .help = "Serve a suspended resource server again." },
        { "rs delete", { NAME }, no_options, "DELETE", "/v1/servers/{}",
          .help = "Remove a resource server with its credentials, key and audiences, and revoke the tokens for it." },
        { "rs credential add", { NAME }, credential_options, "POST", "/v1/servers/{}/credentials",
          .help = "Give a resource server a pre-shared key, which is shown once, a public key, or a rule for "
                  "certificates." },
        { "rs credential list", { NAME }, no_options, "GET", "/v1/servers/{}/credentials", credential_columns,
          .help = "List a resource server's credentials, without keys." },
        { "rs credential delete", { NAME, IN_PATH("ID") }, no_options, "DELETE", "/v1/servers/{}/credentials/{}",
          .help = "Remove a resource server's credential." },
        { "rs key set", { NAME }, key_options, "PUT", "/v1/servers/{}/key",
          .help = "Give a resource server a new key for its tokens; it is shown once." },
        { "rs key list", { NAME }, no_options, "GET", "/v1/servers/{}/keys", server_key_columns,
          .help = "List the keys shared with a resource server and when they are in force, without the keys." },

        { "policy add", {}, policy_options, "POST", "/v1/policies",
          .help = "Allow or deny a client, or all with a label, a scope at an audience." },
        { "policy list", {}, policy_filter, "GET", "/v1/policies", policy_columns, .help = "List policies." },
        { "policy delete", { IN_PATH("ID") }, no_options, "DELETE", "/v1/policies/{}", .help = "Remove a policy." },
        { "policy test", { AS_MEMBER("FILE", "file") }, no_options, .run = run_policy_test,
          .help = "Check the expectations in a file: who is granted what, who is not." },
        { "explain", { AS_MEMBER("CLIENT", "client"), AS_MEMBER("AUDIENCE", "audience"), MAYBE("SCOPE", "scope") },
          explain_options, "GET", "/v1/explain", .help = "Say what this token request would be answered, and why." },

        { "token list", {}, token_filter, "GET", "/v1/tokens", token_columns,
          .help = "List tokens, those that are alive." },
        { "token show", { IN_PATH("CTI-HEX") }, no_options, "GET", "/v1/tokens/{}",
          .help = "Show a token, without its key." },
        { "token revoke", { MAYBE("CTI-HEX", "cti") }, revoke_options, .run = run_token_revoke,
          .help = "Revoke a token, or all live ones of a client, for a resource server, of a label." },
        { "trl list", {}, no_options, "GET", "/v1/trl", trl_columns,
          .help = "List the token revocation list: revoked tokens that have not expired." },

        { "audit list", {}, audit_filter, "GET", "/v1/audit", audit_columns,
          .help = "List what was decided and changed, by whom, and why." },
        { "audit verify", {}, audit_verify_options, "GET", "/v1/audit/verify", .run = run_audit_verify,
          .help = "Check that no row of the audit trail was changed or is missing; shows the newest row's hash." },
        { "audit export", {}, audit_export_options, "GET", "/v1/audit/export", .run = run_audit_export,
          .help = "Print the audit trail as lines of JSON that anybody can verify." },

        { "export", { MAYBE("FILE", "file") }, bulk_export_options, "GET", "/v1/export", .run = bulk_export,
          .help = "Write what is registered as rows, JSON or with -o csv CSV: what acectl apply reads." },
        { "apply", { AS_MEMBER("FILE", "file") }, bulk_apply_options, "POST", "/v1/apply", .run = bulk_apply,
          .help = "Make clients, credentials, resource servers and policies what a file says, all of it or nothing." },

        { "config show", {}, no_options, "GET", "/v1/config", config_columns,
          .help = "Show the configuration in force." },
        { "config check", { MAYBE("FILE", "file") }, no_options, .run = run_config_check,
          .help = "Name every fault of a configuration file; " CONFIG_DEFAULT " if none is given." },
};

/* These may stand anywhere on the command line. */
static const struct option global_options[] = {
        { "--socket", "s", OPTION_TEXT, "SOCKET", "where aced listens; else $ACED_CONTROL, else " SOCKET_DEFAULT },
        { "--output", "o", OPTION_TEXT, "table|json|csv", "how to print; table if not given" },
        { "--help", "h", OPTION_FLAG, NO_VALUE, "say what there is; after a verb, what it takes" },
        { "--version", "V", OPTION_FLAG, NO_VALUE, "say which acectl this is" },
        {},
};

/* ---- one call of acectl */

static void invocation_done(struct invocation *invocation) {
        json_decref(invocation->values);
        free(invocation->words);
}

/* How many characters to put in, take out or change (Levenshtein), for short words; more than fit counts as far off. */
static size_t distance(const char *a, const char *b) {
        size_t row[64], n_b = strlen(b);

        if (n_b >= N_ELEMENTS(row))
                return SIZE_MAX;
        for (size_t j = 0; j <= n_b; j++)
                row[j] = j;
        for (size_t i = 1; a[i - 1] != '\0'; i++) {
                size_t diagonal = row[0];

                row[0] = i;
                for (size_t j = 1; j <= n_b; j++) {
                        size_t change = diagonal + (a[i - 1] != b[j - 1]);

                        diagonal = row[j];
                        row[j] = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
                        row[j] = change < row[j] ? change : row[j];
                }
        }
        return row[n_b];
}

/* ---- help: from the tables alone */

static const char *short_form(const struct option *option) {
        return option >= global_options && option < global_options + N_ELEMENTS(global_options) ? option->member : NULL;
}

static json_t *help_row(const char *verb, const char *arguments, const struct option *option, const char *help) {
        char name[64] = "";

        if (option && short_form(option))
                snprintf(name, sizeof(name), "-%s, %s", short_form(option), option->name);
        else if (option)
                snprintf(name, sizeof(name), "%s", option->name);
        return json_pack("{s:s, s:s, s:s, s:s, s:s+}", "verb", verb, "arguments", arguments, "option", name, "value",
                         option && option->value ? option->value : "", "help", help,
                         option && option->kind == OPTION_LIST ? "; may be given again" : "");
}

static void arguments_text(const struct verb *verb, char *text, size_t size) {
        size_t at = 0;

        text[0] = '\0';
        for (const struct argument *argument = verb->arguments; argument->name; argument++)
                at += (size_t)snprintf(text + at, size - at, argument->optional ? "%s[%s]" : "%s%s", at > 0 ? " " : "",
                                       argument->name);
}

/* Does the verb begin with these n words? */
static bool verb_begins(const struct verb *verb, const struct word *words, size_t n) {
        const char *at = verb->words;

        for (size_t i = 0; i < n; i++) {
                size_t size = strcspn(at, " ");

                if (*at == '\0' || strlen(words[i].text) != size || strncmp(words[i].text, at, size) != 0)
                        return false;
                at += size;
                at += *at == ' ';
        }
        return true;
}

/* Rows for a verb: itself, and for each of its options when they are asked for. */
static int help_add_verb(json_t *rows, const struct verb *verb, bool options) {
        char arguments[128];
        int r;

        arguments_text(verb, arguments, sizeof(arguments));
        r = json_array_append_new(rows, help_row(verb->words, arguments, NULL, verb->help));
        for (const struct option *option = verb->options; options && option->name; option++)
                r |= json_array_append_new(rows, help_row(verb->words, arguments, option, option->help));
        return r;
}

static void help_text_head(const struct verb *verb) {
        char arguments[128];

        if (!verb) {
                puts("acectl [-s SOCKET] [-o table|json|csv] VERB…\n\nAdminister aced over its control socket.\n");
                return;
        }
        arguments_text(verb, arguments, sizeof(arguments));
        printf("acectl %s%s%s%s\n\n%s\n\n", verb->words, *arguments != '\0' ? " " : "", arguments,
               verb->options->name ? " [OPTION…]" : "", verb->help);
}

/* For people: options of one verb, or verbs. */
static const struct print_column verb_columns[] = { { "verb", "VERB" }, { "arguments", "" }, { "help", "" }, {} };
static const struct print_column option_columns[] = { { "option", "OPTION" }, { "value", "" }, { "help", "" }, {} };

static int help_table(const struct print_column *columns, const json_t *rows) {
        struct printer printer;
        int r;

        if (json_array_size(rows) == 0)
                return 0;
        r = printer_begin(&printer, PRINT_TABLE, columns);
        if (r == 0)
                r = printer_items(&printer, rows);
        if (r == 0)
                r = printer_end(&printer);
        printer_done(&printer);
        putchar('\n');
        return r;
}

static int help_options(json_t *rows, const struct option *options) {
        int r = 0;

        for (const struct option *option = options; option->name; option++)
                r |= json_array_append_new(rows, help_row("", "", option, option->help));
        return r;
}

static int help_for_people(const struct verb *verb, const struct word *words, size_t n_words) {
        json_t *of_verb = json_array(), *global = json_array();
        int r = 0;

        for (size_t i = 0; !verb && i < N_ELEMENTS(verbs); i++)
                if (verb_begins(&verbs[i], words, n_words))
                        r |= help_add_verb(of_verb, &verbs[i], false);
        if (verb)
                r |= help_options(of_verb, verb->options);
        r |= help_options(global, global_options);
        help_text_head(verb);
        if (r == 0)
                r = help_table(verb ? option_columns : verb_columns, of_verb);
        if (r == 0)
                r = help_table(option_columns, global);
        json_decref(of_verb);
        json_decref(global);
        return r;
}

/* For programs: everything there is, a row for each verb and one for each of its options. */
static int help_for_programs(enum print_format format, const struct verb *verb, const struct word *words,
                             size_t n_words) {
        json_t *rows = json_array();
        struct printer printer;
        int r = help_options(rows, global_options);

        for (size_t i = 0; i < N_ELEMENTS(verbs); i++)
                if (verb ? verb == &verbs[i] : verb_begins(&verbs[i], words, n_words))
                        r |= help_add_verb(rows, &verbs[i], true);
        r |= printer_begin(&printer, format, help_columns);
        if (r == 0)
                r = printer_items(&printer, rows);
        if (r == 0)
                r = printer_end(&printer);
        printer_done(&printer);
        json_decref(rows);
        return r;
}

/* ---- the command line */

static const struct option *option_find(const struct option *options, const char *name, size_t size) {
        for (; options->name; options++)
                if (strlen(options->name) == size && strncmp(options->name, name, size) == 0)
                        return options;
        return NULL;
}

static int global_set(struct invocation *invocation, const struct option *option, const char *value) {
        static const char *const formats[] = { [PRINT_TABLE] = "table", [PRINT_JSON] = "json", [PRINT_CSV] = "csv" };

        switch (option->member[0]) {
        case 's':
                invocation->socket = value;
                return STATUS_DONE;
        case 'h':
                invocation->help = true;
                return STATUS_DONE;
        case 'V':
                invocation->version = true;
                return STATUS_DONE;
        }
        for (size_t i = 0; i < N_ELEMENTS(formats); i++)
                if (strcmp(formats[i], value) == 0) {
                        invocation->format = (enum print_format)i;
                        return STATUS_DONE;
                }
        say("%s: output is table, json or csv", value);
        return STATUS_USAGE;
}

/* -o json, -ojson, --output json, --output=json. *ret_value points into text, or is NULL. */
static const struct option *global_match(const char *text, const char **ret_value) {
        const struct option *option;
        size_t size = strcspn(text, "=");

        *ret_value = NULL;
        if (text[0] == '-' && text[1] != '-' && text[1] != '\0') {
                for (option = global_options; option->name; option++)
                        if (option->member[0] == text[1]) {
                                *ret_value = text[2] != '\0' ? text + 2 : NULL;
                                return option;
                        }
                return NULL;
        }
        option = option_find(global_options, text, size);
        if (option && text[size] == '=')
                *ret_value = text + size + 1;
        return option;
}

/* Take the global options out; words get the rest, in order. */
static int parse_global(struct invocation *invocation, int argc, char **argv) {
        bool plain = false;

        for (int i = 1; i < argc; i++) {
                const char *value = NULL;
                const struct option *option = plain ? NULL : global_match(argv[i], &value);
                int r;

                if (!plain && strcmp(argv[i], "--") == 0) {
                        plain = true;
                        continue;
                }
                if (!option) {
                        invocation->words[invocation->n_words++] = (struct word){ argv[i], plain };
                        continue;
                }
                if (option->kind == OPTION_FLAG ? value != NULL : !value && i + 1 == argc) {
                        say(value ? "%s takes no value" : "%s needs a value: %s", option->name, option->value);
                        return STATUS_USAGE;
                }
                if (option->kind != OPTION_FLAG && !value)
                        value = argv[++i];
                r = global_set(invocation, option, value);
                if (r != STATUS_DONE)
                        return r;
        }
        return STATUS_DONE;
}

static bool is_option(const struct word *word) {
        return !word->plain && word->text[0] == '-' && word->text[1] != '\0';
}

static size_t count_words(const char *text) {
        size_t n = 1;

        for (; *text != '\0'; text++)
                n += *text == ' ';
        return n;
}

/* The verb that what is typed comes nearest to, judged by as many words as it has. */
static const struct verb *verb_suggest(const struct word *words, size_t n_leading) {
        const struct verb *best = NULL;
        size_t best_distance = SUGGEST_DISTANCE_MAX + 1;

        for (size_t i = 0; i < N_ELEMENTS(verbs); i++) {
                size_t n = count_words(verbs[i].words), at = 0, d;
                char typed[64] = "";

                for (size_t j = 0; j < n && j < n_leading && at < sizeof(typed); j++)
                        at += (size_t)snprintf(typed + at, sizeof(typed) - at, "%s%s", j > 0 ? " " : "", words[j].text);
                d = distance(typed, verbs[i].words);
                if (d < best_distance) {
                        best_distance = d;
                        best = &verbs[i];
                }
        }
        return best;
}

/* The longest verb that stands at the start of the words, which are then moved past it. */
static int parse_verb(struct invocation *invocation, size_t *ret_n) {
        const struct verb *suggested;
        size_t n_leading = 0, best = 0;

        while (n_leading < invocation->n_words && !is_option(&invocation->words[n_leading]))
                n_leading++;
        for (size_t i = 0; i < N_ELEMENTS(verbs); i++) {
                size_t n = count_words(verbs[i].words);

                if (n <= n_leading && n > best && verb_begins(&verbs[i], invocation->words, n)) {
                        invocation->verb = &verbs[i];
                        best = n;
                }
        }
        *ret_n = invocation->verb ? best : n_leading;
        if (invocation->verb || invocation->help)
                return STATUS_DONE;
        if (invocation->n_words == 0) {
                say("say what to do: acectl --help lists the verbs");
                return STATUS_USAGE;
        }
        if (n_leading == 0) {
                say("%s: no such option in front of the verb: acectl --help lists what there is",
                    invocation->words[0].text);
                return STATUS_USAGE;
        }
        suggested = verb_suggest(invocation->words, n_leading);
        if (suggested)
                say("%s%s%s: no such verb; did you mean \"%s\"? acectl --help lists all", invocation->words[0].text,
                    n_leading > 1 ? " " : "", n_leading > 1 ? invocation->words[1].text : "", suggested->words);
        else
                say("%s: no such verb: acectl --help lists all", invocation->words[0].text);
        return STATUS_USAGE;
}

static json_t *value_parse(const struct option *option, const char *text) {
        json_int_t number;

        switch (option->kind) {
        case OPTION_TEXT:
        case OPTION_LIST:
                return json_string(text);
        case OPTION_FLAG:
                return json_true();
        case OPTION_BOOL:
                return strcmp(text, "yes") == 0 ? json_true() : strcmp(text, "no") == 0 ? json_false() : NULL;
        case OPTION_TIME:
                return time_parse(text, &number) ? json_integer(number) : NULL;
        case OPTION_INT:
                if (*text == '\0' || strspn(text, "0123456789") != strlen(text) || strlen(text) > 15)
                        return NULL;
                return json_integer(strtoll(text, NULL, 10));
        case OPTION_PUBLIC_KEY_FILE:
                return key_file_public_key(text);
        case OPTION_RULE_FILE:
                return key_file_rule(text);
        }
        return NULL;
}

static int option_set(struct invocation *invocation, const struct option *option, const char *text) {
        json_t *value = value_parse(option, text), *list = json_object_get(invocation->values, option->member);

        if (!value && (option->kind == OPTION_PUBLIC_KEY_FILE || option->kind == OPTION_RULE_FILE))
                return STATUS_USAGE; /* said already */
        if (!value) {
                bool is_text = option->kind == OPTION_TEXT || option->kind == OPTION_LIST;

                say("%s: %s \"%s\" is not allowed: it takes %s (%s)", invocation->verb->words, option->name, text,
                    is_text ? "UTF-8 text" : option->value, option->help);
                return STATUS_USAGE;
        }
        if (option->kind == OPTION_LIST) {
                if (!list) {
                        list = json_array();
                        if (json_object_set_new(invocation->values, option->member, list) != 0)
                                return json_decref(value), out_of_memory();
                }
                if (*text == '\0')
                        return json_decref(value), STATUS_DONE;
                return json_array_append_new(list, value) == 0 ? STATUS_DONE : out_of_memory();
        }
        if (list) {
                json_decref(value);
                say("%s: %s is given twice", invocation->verb->words, option->name);
                return STATUS_USAGE;
        }
        return json_object_set_new(invocation->values, option->member, value) == 0 ? STATUS_DONE : out_of_memory();
}

static int option_unknown(const struct verb *verb, const char *text) {
        const struct option *best = NULL;
        size_t best_distance = SUGGEST_DISTANCE_MAX + 1;

        for (const struct option *option = verb->options; option->name; option++) {
                size_t d = distance(text, option->name);

                if (d < best_distance) {
                        best_distance = d;
                        best = option;
                }
        }
        say("%s: no such option %s%s%s; acectl %s --help lists them", verb->words, text, best ? ", did you mean " : "",
            best ? best->name : "", verb->words);
        return STATUS_USAGE;
}

/* The option at words[*at], and its value, maybe in the word behind it. */
static int parse_option(struct invocation *invocation, size_t *at) {
        const char *text = invocation->words[*at].text, *value = NULL;
        size_t size = strcspn(text, "=");
        const struct option *option = option_find(invocation->verb->options, text, size);

        if (!option)
                return option_unknown(invocation->verb, text);
        if (text[size] == '=')
                value = text + size + 1;
        if (option->kind == OPTION_FLAG) {
                if (value) {
                        say("%s: %s takes no value", invocation->verb->words, option->name);
                        return STATUS_USAGE;
                }
                return option_set(invocation, option, "");
        }
        if (!value && *at + 1 < invocation->n_words && !is_option(&invocation->words[*at + 1]))
                value = invocation->words[++*at].text;
        if (!value) {
                say("%s: %s needs a value: %s", invocation->verb->words, option->name, option->value);
                return STATUS_USAGE;
        }
        return option_set(invocation, option, value);
}

static int argument_set(struct invocation *invocation, const struct argument *argument, const char *text) {
        json_t *value;

        if (*text == '\0') {
                say("%s: %s is empty", invocation->verb->words, argument->name);
                return STATUS_USAGE;
        }
        if (!argument->member) {
                invocation->path_values[invocation->n_path_values++] = text;
                return STATUS_DONE;
        }
        value = json_string(text);
        if (!value) {
                say("%s: %s is not UTF-8 text", invocation->verb->words, argument->name);
                return STATUS_USAGE;
        }
        return json_object_set_new(invocation->values, argument->member, value) == 0 ? STATUS_DONE : out_of_memory();
}

/* Arguments and options of the verb, from words[at] on. */
static int parse_rest(struct invocation *invocation, size_t at) {
        const struct argument *argument = invocation->verb->arguments;
        bool any_option = false;
        int r = STATUS_DONE;

        for (; at < invocation->n_words && r == STATUS_DONE; at++) {
                if (is_option(&invocation->words[at])) {
                        any_option = true;
                        r = parse_option(invocation, &at);
                } else if (!argument->name) {
                        say("%s: \"%s\" is one argument too many; acectl %s --help says what it takes",
                            invocation->verb->words, invocation->words[at].text, invocation->verb->words);
                        r = STATUS_USAGE;
                } else {
                        r = argument_set(invocation, argument++, invocation->words[at].text);
                }
        }
        if (r == STATUS_DONE && argument->name && !argument->optional) {
                say("%s: %s is missing; acectl %s --help says what it takes", invocation->verb->words, argument->name,
                    invocation->verb->words);
                return STATUS_USAGE;
        }
        if (r == STATUS_DONE && invocation->verb->needs_option && !any_option) {
                say("%s: say what to change; acectl %s --help lists what can be", invocation->verb->words,
                    invocation->verb->words);
                return STATUS_USAGE;
        }
        return r;
}

/* ---- what is printed */

/* Keys leave aced in this one answer. */
static void say_once(const struct invocation *invocation, const json_t *object) {
        if (invocation->format == PRINT_TABLE &&
            (json_object_get(object, "key_hex") || json_object_get(object, "token_key_hex")))
                puts("\nThe key is shown once, keep it: aced will not show it again.");
        if (invocation->format == PRINT_TABLE && json_object_get(object, "record_hex"))
                puts("\nThe record is for the device and shown once, keep it: aced will not show it again.");
}

/* A verb that has no answer but that it is done: the verb, and what it was about. */
static json_t *done_object(const struct invocation *invocation) {
        json_t *object = json_pack("{s:s}", "done", invocation->verb->words);
        size_t n = 0;

        for (const struct argument *argument = invocation->verb->arguments; argument->name; argument++) {
                char name[32];
                size_t i;

                for (i = 0; argument->name[i] != '\0' && i + 1 < sizeof(name); i++)
                        name[i] = argument->name[i] == '-' ? '_' : (char)(argument->name[i] | 0x20);
                name[i] = '\0';
                if (!argument->member)
                        json_object_set_new(object, name, json_string(invocation->path_values[n++]));
        }
        return object;
}

static int run_object(const struct invocation *invocation) {
        _cleanup_(answer_done) struct answer answer = {};
        int r = request_send(invocation, NULL, &answer);

        if (r != STATUS_DONE)
                return r;
        if (invocation->verb->is_text && invocation->format == PRINT_TABLE) {
                fputs(json_string_value(json_object_get(answer.json, "text")), stdout);
                return check_printed(0);
        }
        if (!answer.json)
                answer.json = done_object(invocation);
        if (!answer.json)
                return out_of_memory();
        r = print_object(invocation->format, answer.json);
        say_once(invocation, answer.json);
        return check_printed(r);
}

/* Pages until aced says that there is none behind. */
static int run_pages(const struct invocation *invocation, struct printer *printer) {
        _cleanup_(answer_done) struct answer answer = {};
        json_t *after = NULL;
        int r;

        do {
                json_t *next;

                answer_done(&answer);
                r = request_send(invocation, after, &answer);
                json_decref(after);
                after = NULL;
                if (r != STATUS_DONE)
                        return r;
                if (!printer->columns) {
                        r = printer_begin(printer, invocation->format, invocation->verb->columns);
                        if (r != 0)
                                return check_printed(r);
                }
                r = printer_items(printer, json_object_get(answer.json, "items"));
                if (r != 0)
                        return check_printed(r);
                next = json_object_get(answer.json, "next");
                if (next && !json_is_null(next))
                        after = json_incref(next);
        } while (after);
        return check_printed(printer_end(printer));
}

static int run_list(const struct invocation *invocation) {
        struct printer printer = {};
        int r = run_pages(invocation, &printer);

        printer_done(&printer);
        return r;
}

/* ---- init: what must be there before aced starts for the first time */

struct new_state {
        char *directory, *database, *key, *issuer;
        bool made_directory, made_key, made_database;
        bool changes_owner;
        uid_t uid;
        gid_t gid;
};

/* What was begun and not finished goes again. */
static void new_state_done(struct new_state *state) {
        static const char *const endings[] = { "", "-wal", "-shm", "-journal" };

        for (size_t i = 0; state->made_database && i < N_ELEMENTS(endings); i++) {
                _cleanup_(freep) char *path = NULL;

                if (asprintf(&path, "%s%s", state->database, endings[i]) >= 0)
                        unlink(path);
        }
        if (state->made_key)
                unlink(state->key);
        if (state->made_directory)
                rmdir(state->directory);
        free(state->directory);
        free(state->database);
        free(state->key);
        free(state->issuer);
}

static char *path_join(const char *directory, const char *name) {
        char *path;

        return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

/* Where: --state, or what the configuration says. */
static int init_paths(const struct invocation *invocation, struct new_state *state) {
        const char *directory = json_string_value(json_object_get(invocation->values, "state"));
        const char *file = json_string_value(json_object_get(invocation->values, "config"));
        _cleanup_(diags_done) struct diags faults = {};
        struct config *config = NULL;
        int r;

        if (directory && file) {
                say("init: --config and --state: one of the two says where");
                return STATUS_USAGE;
        }
        r = config_load(directory ? NULL : file ? file : CONFIG_DEFAULT, &config, &faults);
        if (r == -ENOENT && !file)
                r = config_load(NULL, &config, &faults); /* no file: the defaults say where, as they do for aced */
        if (r == -ENOENT)
                say("init: there is no file %s", file);
        if (r == -ENOMEM)
                return out_of_memory();
        if (r != 0)
                return say_diags(&faults);
        state->directory = strdup(directory ? directory : config->state_directory);
        state->key = directory || !config->key_file ? path_join(state->directory ? state->directory : "", "seal.key") :
                                                      strdup(config->key_file);
        state->database = path_join(state->directory ? state->directory : "", "aced.db");
        state->issuer = strdup(config->issuer);
        config_free(config);
        return state->directory && state->key && state->database && state->issuer ? STATUS_DONE : out_of_memory();
}

static int refuse_existing(const char *path) {
        say("init: %s is there already and was left alone: this state directory is in use. Choose another one, or "
            "move it away first to begin anew", path);
        return STATUS_REFUSED;
}

/* The directory may be there, empty of ours: systemd or tmpfiles made it, for the user that it belongs to. */
static int init_directory(struct new_state *state) {
        const struct passwd *aced = geteuid() == 0 ? getpwnam("aced") : NULL;
        struct stat at;

        if (lstat(state->database, &at) == 0)
                return refuse_existing(state->database);
        if (mkdir(state->directory, 0700) == 0) {
                state->made_directory = true;
                state->changes_owner = aced != NULL;
                state->uid = aced ? aced->pw_uid : 0;
                state->gid = aced ? aced->pw_gid : 0;
                return STATUS_DONE;
        }
        if (errno != EEXIST) {
                say("init: cannot make %s: %s%s", state->directory, strerror(errno),
                    errno == ENOENT ? ": make the directory above it first" : "");
                return STATUS_REFUSED;
        }
        if (stat(state->directory, &at) != 0 || !S_ISDIR(at.st_mode)) {
                say("init: %s is no directory", state->directory);
                return STATUS_REFUSED;
        }
        if (at.st_mode & (S_IWGRP | S_IWOTH)) { /* they could put another database or key in the place of ours */
                say("init: others can write to %s: chmod 0700 it, or choose a directory of aced's own",
                    state->directory);
                return STATUS_REFUSED;
        }
        state->changes_owner = geteuid() == 0 && at.st_uid != 0;
        state->uid = at.st_uid;
        state->gid = at.st_gid;
        return STATUS_DONE;
}

/* A key of its own, beside the database; one that the configuration names elsewhere may be there and is used. */
static int init_key(struct new_state *state, struct secret *key) {
        _cleanup_(diags_done) struct diags faults = {};
        bool beside = strncmp(state->key, state->directory, strlen(state->directory)) == 0;
        struct stat at;
        int r = 0;

        if (lstat(state->key, &at) != 0) {
                r = seal_key_create(state->key, &faults);
                state->made_key = r == 0;
        } else if (beside) {
                return refuse_existing(state->key);
        }
        if (r == 0)
                r = seal_key_load(state->key, key, &faults);
        return r == 0 ? STATUS_DONE : say_diags(&faults);
}

/* All or none; aced makes at start what a database of an earlier version lacks. */
static int init_own_keys(const struct new_state *state, struct store *store) {
        unsigned n;
        int r = store_begin(store);

        if (r != 0)
                return r;
        r = store_as_keys_ensure(store, bytes_text(state->issuer), clock_wall_s(), &n);
        if (r == 0)
                return store_commit(store);
        store_rollback(store);
        return r > 0 ? -EIO : r;
}

static int init_database(struct new_state *state, const struct secret *key) {
        _cleanup_(diags_done) struct diags faults = {};
        struct store *store = NULL;
        int r;

        state->made_database = true;
        r = store_open(&(struct store_options){ .path = state->database, .seal_key = secret_bytes(key) }, &store,
                       &faults);
        if (r == 0)
                r = init_own_keys(state, store);
        store_free(store);
        if (r != 0 && faults.n_items == 0)
                say("init: cannot make %s: %s", state->database, strerror(-r));
        return r == 0 ? STATUS_DONE : say_diags(&faults);
}

/* Done by root, for the user that aced runs as. */
static int init_owner(const struct new_state *state) {
        const char *const paths[] = { state->database, state->made_key ? state->key : NULL,
                                      state->made_directory ? state->directory : NULL };

        for (size_t i = 0; state->changes_owner && i < N_ELEMENTS(paths); i++)
                if (paths[i] && lchown(paths[i], state->uid, state->gid) != 0) {
                        say("init: cannot give %s to user %u: %s", paths[i], (unsigned)state->uid, strerror(errno));
                        return STATUS_REFUSED;
                }
        return STATUS_DONE;
}

static int init_print(const struct invocation *invocation, const struct new_state *state) {
        const char *with_state = json_string_value(json_object_get(invocation->values, "state"));
        const struct passwd *owner = getpwuid(state->changes_owner ? state->uid : geteuid());
        const char *next = with_state ? "name the directory as state_directory in [server] of a FILE; aced -c FILE" :
                                        "start aced (systemctl start aced), then acectl status";
        json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:s}", "state_directory", state->directory,
                                   "database", state->database, "key_file", state->key,
                                   "owner", owner ? owner->pw_name : "", "next", next);
        int r = object ? print_object(invocation->format, object) : -ENOMEM;

        json_decref(object);
        return check_printed(r);
}

static int run_init(struct invocation *invocation) {
        _cleanup_(new_state_done) struct new_state state = {};
        _cleanup_(secret_done) struct secret key = {};
        int r;

        umask(0077);
        if ((r = init_paths(invocation, &state)) != STATUS_DONE || (r = init_directory(&state)) != STATUS_DONE ||
            (r = init_key(&state, &key)) != STATUS_DONE || (r = init_database(&state, &key)) != STATUS_DONE ||
            (r = init_owner(&state)) != STATUS_DONE)
                return r;
        state.made_directory = state.made_key = state.made_database = false; /* all is done: it stays */
        return init_print(invocation, &state);
}

/* ---- config check */

static int fault_add(json_t *rows, const struct diag *diag) {
        return json_array_append_new(rows, json_pack("{s:s, s:i, s:s}", "file", diag->file ? diag->file : "",
                                                     "line", (int)diag->line, "fault", diag->text)) == 0 ? 0 : -ENOMEM;
}

static int faults_print(const struct invocation *invocation, const struct diags *faults) {
        json_t *rows = json_array();
        struct printer printer = {};
        int r = rows ? 0 : -ENOMEM;

        for (size_t i = 0; r == 0 && i < faults->n_items; i++)
                r = fault_add(rows, &faults->items[i]);
        if (r == 0)
                r = printer_begin(&printer, invocation->format, fault_columns);
        if (r == 0)
                r = printer_items(&printer, rows);
        if (r == 0)
                r = printer_end(&printer);
        printer_done(&printer);
        json_decref(rows);
        return r;
}

static int run_config_check(struct invocation *invocation) {
        const char *file = json_string_value(json_object_get(invocation->values, "file"));
        _cleanup_(diags_done) struct diags faults = {};
        struct config *config = NULL;
        int found, r;

        file = file ? file : CONFIG_DEFAULT;
        found = config_load(file, &config, &faults);
        config_free(config);
        if (found == -ENOMEM)
                return out_of_memory();
        if (found == -ENOENT && faults.n_items == 0 && diags_add(&faults, file, 0, "there is no such file") != 0)
                return out_of_memory();
        if (invocation->format == PRINT_TABLE && found == 0) {
                printf("%s: no faults\n", file);
                return check_printed(0);
        }
        r = check_printed(faults_print(invocation, &faults));
        return r == STATUS_DONE && found != 0 ? STATUS_REFUSED : r;
}

/* ---- backup and check: a copy of the database is checked here, so that aced need not stop for it */

#define PART_SUFFIX ".XXXXXX"
#define BACKUP_URL "http://localhost/v1/backup"

struct copy {
        char *path;   /* removed at the end unless it was renamed */
        int fd;
        const struct invocation *invocation;
};

static void copy_done(struct copy *copy) {
        closep(&copy->fd);
        if (copy->path)
                unlink(copy->path);
        free(copy->path);
}

static bool write_all(int fd, const char *data, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, data, size);

                if (n < 0 && errno != EINTR)
                        return false;
                data += n > 0 ? n : 0;
                size -= n > 0 ? (size_t)n : 0;
        }
        return true;
}

static int on_copy(void *context, struct bytes piece) {
        struct copy *copy = context;

        if (write_all(copy->fd, (const char *)piece.data, piece.size))
                return STATUS_DONE;
        say("%s: cannot write %s: %s", copy->invocation->verb->words, copy->path, strerror(errno));
        return STATUS_REFUSED;
}

/* A new file, mode 0600, whose name begins with path. */
static int copy_create(const struct invocation *invocation, const char *path, struct copy *copy) {
        if (asprintf(&copy->path, "%s" PART_SUFFIX, path) < 0) {
                copy->path = NULL;
                return out_of_memory();
        }
        copy->fd = mkostemp(copy->path, O_CLOEXEC);
        if (copy->fd >= 0)
                return STATUS_DONE;
        say("%s: cannot create a file beside %s: %s", invocation->verb->words, path, strerror(errno));
        free(copy->path);
        copy->path = NULL;
        return STATUS_REFUSED;
}

/* What is wrong with the copy in itself, a row each. Only what could not be tried is a failure. */
static int copy_check(struct copy *copy, int (*check)(const char *path, struct diags *diags), json_t *rows) {
        _cleanup_(diags_done) struct diags faults = {};
        int r = check(copy->path, &faults);

        for (size_t i = 0; i < faults.n_items; i++)
                if (json_array_append_new(rows, json_pack("{s:s}", "fault", faults.items[i].text)) != 0)
                        return -ENOMEM;
        return r == -EIO && faults.n_items > 0 ? 0 : r;
}

/* The file, then its name in its directory: on disk before anybody counts on it. */
static bool copy_keep(struct copy *copy, const char *path) {
        _cleanup_(freep) char *name = strdup(path);
        _cleanup_(closep) int directory = -1;

        if (!name || fsync(copy->fd) != 0 || rename(copy->path, path) != 0)
                return false;
        free(copy->path);
        copy->path = NULL;
        directory = open(dirname(name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return directory >= 0 && fsync(directory) == 0;
}

static int say_faults(const struct invocation *invocation, const json_t *rows) {
        const json_t *row;
        size_t i;

        json_array_foreach(rows, i, row)
                say("%s: %s", invocation->verb->words, json_string_value(json_object_get(row, "fault")));
        say("%s: the database is damaged; no file was written. Restore an earlier backup (aced --restore)",
            invocation->verb->words);
        return STATUS_REFUSED;
}

static int backup_print(const struct invocation *invocation, const char *path, int64_t size) {
        json_t *object = json_pack("{s:s, s:I, s:s}", "file", path, "size", (json_int_t)size, "next",
                                   "keep a copy of the sealing key, too, elsewhere: without it nobody can use "
                                   "this file");
        int r = object ? print_object(invocation->format, object) : -ENOMEM;

        json_decref(object);
        return check_printed(r);
}

static int run_backup(struct invocation *invocation) {
        const char *path = json_string_value(json_object_get(invocation->values, "file"));
        _cleanup_(json_decrefp) json_t *rows = json_array();
        _cleanup_(copy_done) struct copy copy = { .fd = -1, .invocation = invocation };
        struct stat at;
        int r;

        if (!rows)
                return out_of_memory();
        if ((r = copy_create(invocation, path, &copy)) != STATUS_DONE ||
            (r = request_stream(invocation, BACKUP_URL, on_copy, &copy)) != STATUS_DONE)
                return r;
        if (copy_check(&copy, store_check_file, rows) != 0)
                return out_of_memory();
        if (json_array_size(rows) > 0)
                return say_faults(invocation, rows);
        if (fstat(copy.fd, &at) == 0 && copy_keep(&copy, path))
                return backup_print(invocation, path, at.st_size);
        say("backup: cannot put %s in place: %s", path, strerror(errno));
        return STATUS_REFUSED;
}

/* Whether sealed secrets open is what aced alone can tell: page by page, so that others are served in between. */
static int check_secrets(const struct invocation *invocation, json_t *rows) {
        _cleanup_(answer_done) struct answer answer = {};
        _cleanup_(json_decrefp) json_t *after = NULL;
        int r;

        do {
                json_t *next;

                answer_done(&answer);
                r = request_send(invocation, after, &answer);
                if (r != STATUS_DONE)
                        return r;
                if (json_array_extend(rows, json_object_get(answer.json, "items")) != 0)
                        return out_of_memory();
                next = json_object_get(answer.json, "next");
                json_decref(after);
                after = json_is_string(next) ? json_incref(next) : NULL;
        } while (after);
        return STATUS_DONE;
}

static int check_print(const struct invocation *invocation, const json_t *rows) {
        struct printer printer = {};
        int r;

        if (invocation->format == PRINT_TABLE && json_array_size(rows) == 0) {
                puts("The database has no faults.");
                return check_printed(0);
        }
        r = printer_begin(&printer, invocation->format, invocation->verb->columns);
        if (r == 0)
                r = printer_items(&printer, rows);
        if (r == 0)
                r = printer_end(&printer);
        printer_done(&printer);
        r = check_printed(r);
        return r == STATUS_DONE && json_array_size(rows) > 0 ? STATUS_REFUSED : r;
}

static int run_check(struct invocation *invocation) {
        _cleanup_(json_decrefp) json_t *rows = json_array();
        _cleanup_(copy_done) struct copy copy = { .fd = -1, .invocation = invocation };
        _cleanup_(freep) char *path = path_join(getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", "acectl-check");
        int r;

        if (!rows || !path)
                return out_of_memory();
        if ((r = copy_create(invocation, path, &copy)) != STATUS_DONE ||
            (r = request_stream(invocation, BACKUP_URL, on_copy, &copy)) != STATUS_DONE)
                return r;
        if (copy_check(&copy, store_check_file, rows) != 0 ||
            (json_array_size(rows) == 0 && copy_check(&copy, store_check_audit_file, rows) != 0))
                return out_of_memory();
        r = check_secrets(invocation, rows);
        return r == STATUS_DONE ? check_print(invocation, rows) : r;
}

/* ---- main */

static int run_verb(struct invocation *invocation) {
        const struct verb *verb = invocation->verb;

        if (verb->run)
                return verb->run(invocation);
        if (verb->fixed && json_object_set_new(invocation->values, verb->fixed, json_boolean(verb->fixed_value)) != 0)
                return out_of_memory();
        return verb->columns ? run_list(invocation) : run_object(invocation);
}

static int run_help(const struct invocation *invocation, size_t n_words) {
        bool any = invocation->verb != NULL;

        for (size_t i = 0; !any && i < N_ELEMENTS(verbs); i++)
                any = verb_begins(&verbs[i], invocation->words, n_words);
        if (!any) {
                say("%s: no such verb: acectl --help lists all", invocation->words[0].text);
                return STATUS_USAGE;
        }
        if (invocation->format != PRINT_TABLE)
                return check_printed(help_for_programs(invocation->format, invocation->verb, invocation->words,
                                                       n_words));
        return check_printed(help_for_people(invocation->verb, invocation->words, n_words));
}

static int run(int argc, char **argv) {
        const char *socket = getenv("ACED_CONTROL");
        _cleanup_(invocation_done) struct invocation invocation = { .socket = SOCKET_DEFAULT };
        size_t n_words = 0;
        int r;

        if (socket && *socket != '\0')
                invocation.socket = socket;
        invocation.words = calloc((size_t)argc + 1, sizeof(*invocation.words));
        invocation.values = json_object();
        if (!invocation.words || !invocation.values)
                return out_of_memory();
        r = parse_global(&invocation, argc, argv);
        if (r == STATUS_DONE && invocation.version) {
                puts("acectl " PACKAGE_VERSION);
                return check_printed(0);
        }
        if (r == STATUS_DONE)
                r = parse_verb(&invocation, &n_words);
        if (r == STATUS_DONE && invocation.help)
                return run_help(&invocation, n_words);
        if (r == STATUS_DONE)
                r = parse_rest(&invocation, n_words);
        return r == STATUS_DONE ? run_verb(&invocation) : r;
}

int main(int argc, char **argv) {
        int r;

        json_wipe_what_is_freed(); /* keys come and go as JSON */
        /* libsmartcols shows what the locale cannot as \xNN; terminals without a locale set speak UTF-8 all the same */
        if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1)
                setlocale(LC_CTYPE, "C.UTF-8");
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return out_of_memory();
        r = run(argc, argv);
        curl_global_cleanup();
        return r;
}
