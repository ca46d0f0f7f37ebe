#include "domain/grant.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "domain/refusal.h"

/* What can be set up between a client and a resource server. */
#define PROFILES_SERVED (PROFILE_BIT(PROFILE_COAP_DTLS) | PROFILE_BIT(PROFILE_COAP_OSCORE))

/* A decision on its way. */
struct deciding {
        const struct token_facts *facts;
        const struct token_ask *ask;
        int64_t now_s;
        struct scope asked;      /* kind NONE: the request named none */
        const struct scope *wanted; /* asked, or the default one; NULL: not known yet */
        struct policy_question question;
        struct policy_answer policy;
        struct grant *grant;
        struct explanation *why; /* NULL: nobody wants to know */
};

void token_facts_done(struct token_facts *facts) {
        free(facts->policies);
        facts->policies = NULL;
        facts->n_policies = 0;
        secret_done(&facts->pop_key);
        refresh_token_done(&facts->refresh);
}

void refresh_token_done(struct refresh_token *token) {
        secret_done(&token->pop_key);
}

void grant_done(struct grant *grant) {
        secret_done(&grant->pop_key);
        secret_done(&grant->refresh_token);
}

static int refuse(struct deciding *d, int refusal, const char *why) {
        if (d->why)
                d->why->why = why;
        return refusal;
}

static int check_client(struct deciding *d) {
        const struct token_facts *facts = d->facts;

        if (facts->asker_is_server)
                return 0; /* registered and authenticated; check_right() has its answer */
        if (facts->client.id == 0)
                return refuse(d, REFUSE_UNKNOWN_CLIENT,
                              "RFC 9200 §5.8: the channel's credential belongs to no registered client");
        if (facts->client.suspended)
                return refuse(d, REFUSE_SUSPENDED_CLIENT, "RFC 9200 §5.8: the client is suspended");
        if (d->ask->client_id.data && !bytes_equal(d->ask->client_id, bytes_text(facts->client.name)))
                return refuse(d, REFUSE_CLIENT_ID,
                              "RFC 6749 §3.2.1: client_id names another client than the one authenticated");
        return 0;
}

static int check_grant_type(struct deciding *d) {
        if (d->ask->grant_type == ASK_OTHER_GRANT)
                return refuse(d, REFUSE_GRANT_TYPE,
                              "RFC 9200 §5.8.1: only the grant types client_credentials (2) and refresh_token (3) are "
                              "served");
        return 0;
}

static bool is_refresh(const struct deciding *d) {
        return d->ask->grant_type == ASK_REFRESH_TOKEN;
}

static int check_right(struct deciding *d) {
        if (d->facts->asker_is_server)
                return refuse(d, REFUSE_GRANT_NOT_ALLOWED,
                              "RFC 9200 §5.8.3: a resource server's credential is no right to ask for tokens");
        if (is_refresh(d) && d->facts->client.refresh_lifetime_s == 0)
                return refuse(d, REFUSE_GRANT_NOT_ALLOWED,
                              "RFC 9200 §5.8.3: the client is registered without refresh tokens");
        return 0;
}

/* The right that the request stands on, when that is not the client's registration. */
static int check_refresh_token(struct deciding *d) {
        if (!is_refresh(d) || d->facts->refresh_found)
                return 0;
        if (d->facts->refresh_reused)
                return refuse(d, REFUSE_REFRESH_TOKEN,
                              "RFC 6749 §10.4: the refresh token was used before: its whole family is revoked");
        return refuse(d, REFUSE_REFRESH_TOKEN,
                      "RFC 6749 §6: the refresh token is unknown, expired, revoked, or somebody else's");
}

/* AS-029; and an audience that now means another server would be given the key of the one before (RFC 9200 §6.1) */
static int check_refresh_audience(struct deciding *d) {
        const struct token_facts *facts = d->facts;

        if (!is_refresh(d))
                return 0;
        if (d->ask->audience.data && !bytes_equal(d->ask->audience, bytes_text(facts->refresh.audience)))
                return refuse(d, REFUSE_REFRESH_CHANGE,
                              "RFC 9200 §5.8.1: the refresh token is for another audience than the one asked");
        if (facts->n_servers > 0 && facts->refresh.server_id != (facts->is_group ? 0 : facts->server.id))
                return refuse(d, REFUSE_AUDIENCE,
                              "RFC 9200 §6.1: the audience is another resource server's than when the refresh token "
                              "was given");
        return 0;
}

static int check_audience(struct deciding *d) {
        const struct token_facts *facts = d->facts;

        if (facts->audience[0] == '\0' && !d->ask->audience.data)
                return refuse(d, REFUSE_NO_AUDIENCE,
                              "RFC 9200 §5.8.1: no audience is asked and the client has no default audience");

        /* the three alike, so that nobody can find out which audiences exist (RFC 9200 §6.9) */
        if (facts->n_servers == 0)
                return refuse(d, REFUSE_AUDIENCE, "RFC 9200 §5.8.2: no resource server has the audience");
        if (facts->n_servers == 1 && facts->server.suspended)
                return refuse(d, REFUSE_AUDIENCE, "RFC 9200 §5.8.2: the resource server is suspended");
        if (facts->is_group && !facts->server.has_clock)
                return refuse(d, REFUSE_AUDIENCE,
                              "RFC 9200 §5.10.3: a resource server of the group has no clock, and sequence numbers are "
                              "for one server alone");
        if (!policy_is_open(&d->question))
                return refuse(d, REFUSE_AUDIENCE,
                              "RFC 9200 §5.8.2: no active policy lets the client use the audience");

        if (d->ask->cnf == ASK_CNF_NONE && !is_refresh(d) && facts->is_group)
                return refuse(d, REFUSE_GROUP_SYMMETRIC,
                              "RFC 9200 §6.9: a symmetric key must not be shared by the servers of a group audience");
        return 0;
}

/* A lifetime, and who says so. */
struct lifetime {
        int64_t s;
        const char *from;
};

static void shorten(struct lifetime *lifetime, int64_t max_s, const char *from) {
        if (max_s > 0 && max_s < lifetime->s)
                *lifetime = (struct lifetime){ max_s, from };
}

static struct lifetime longest_lifetime(const struct token_facts *facts) {
        struct lifetime lifetime = { facts->server.default_lifetime_s, "resource server" };

        if (lifetime.s <= 0)
                lifetime = (struct lifetime){ facts->default_lifetime_s, "configuration" };
        shorten(&lifetime, facts->max_lifetime_s, "configuration");
        shorten(&lifetime, facts->server.max_lifetime_s, "resource server");
        return lifetime;
}

static bool has_exi(const struct token_facts *facts) {
        return !facts->server.has_clock && !facts->is_group;
}

/* As an exi token's lifetime cannot be shortened, what is to be shorter is not granted (AS-176). */
static int set_lifetime(struct deciding *d) {
        struct lifetime longest = longest_lifetime(d->facts), lifetime = longest;
        int64_t start_s = d->policy.nbf_s != 0 ? d->policy.nbf_s : d->now_s;
        struct grant *grant = d->grant;

        shorten(&lifetime, d->facts->client.max_lifetime_s, "client");
        shorten(&lifetime, d->policy.max_lifetime_s, "policy");
        if (d->policy.until_s != 0) /* rights must not outlive the period they were given for */
                shorten(&lifetime, d->policy.until_s - start_s, "policy");
        if (has_exi(d->facts) && lifetime.s < longest.s)
                return refuse(d, REFUSE_SCOPE,
                              "RFC 9200 §5.10.3: tokens for a resource server without a clock all live as long as its "
                              "lifetime says, and the client or a policy allows less");

        grant->has_exi = has_exi(d->facts);
        grant->nbf_s = d->policy.nbf_s;
        grant->issued_s = d->now_s;
        grant->expires_s = start_s + lifetime.s;
        grant->lifetime_s = grant->expires_s - d->now_s; /* RFC 6749 §5.1: expires_in counts from the answer */
        if (d->why) {
                d->why->lifetime_s = grant->lifetime_s;
                d->why->lifetime_from = lifetime.from;
        }
        return 0;
}

/* What policies say to wanted: to the grant, and to who wants to know. */
static bool ask_policies(struct deciding *d, const struct scope *wanted) {
        struct policy_answer *answer = &d->policy;
        struct explanation *why = d->why;

        (void)policy_evaluate(&d->question, wanted, answer);
        d->grant->scope = answer->scope;
        if (why) {
                why->allowed = answer->allowed;
                why->n_policies = answer->n_policies;
                memcpy(why->policies, answer->policies, sizeof(why->policies));
        }
        return answer->scope.kind != SCOPE_NONE;
}

/* RFC 6749 §6: no more than the refresh token has */
static int check_scope_of_refresh(struct deciding *d) {
        struct scope part;

        if (!is_refresh(d) ||
            (scope_intersect(&d->asked, &d->facts->refresh.scope, &part) && scope_equal(&part, &d->asked)))
                return 0;
        return refuse(d, REFUSE_SCOPE, "RFC 6749 §6: more scope is asked than the refresh token has");
}

/* RFC 9237 in a scope of bytes is what the resource server says it is: others have bytes of their own there. */
static int read_scope(struct deciding *d) {
        const struct token_ask *ask = d->ask;
        const struct server *server = &d->facts->server;

        if (ask->scope_kind == SCOPE_NONE) {
                const struct scope *given = is_refresh(d) ? &d->facts->refresh.scope : &server->default_scope;

                if (given->kind == SCOPE_NONE)
                        return refuse(d, REFUSE_NO_SCOPE,
                                      "RFC 6749 §3.3: no scope is asked and the resource server has no default scope");
                d->wanted = given;
                return 0;
        }
        if (ask->scope_kind == SCOPE_BYTES && server->scope_kind == SCOPE_AIF && ask->aif.kind == SCOPE_NONE)
                return refuse(d, REFUSE_SCOPE, "RFC 9237 §2.1: scope is not an array of objects and permissions");
        if (ask->scope_kind == SCOPE_BYTES && server->scope_kind == SCOPE_AIF)
                d->asked = ask->aif;
        else if (scope_set(&d->asked, ask->scope_kind, ask->scope) != 0)
                return refuse(d, REFUSE_SCOPE, "RFC 6749 §3.3: scope is empty, malformed or too long");
        if (d->why)
                d->why->asked = d->asked;
        if (d->asked.kind != server->scope_kind)
                return refuse(d, REFUSE_SCOPE,
                              "RFC 9200 §5.8.1: scope is not of the kind (text, bytes) that the resource "
                              "server's scopes are");
        d->wanted = &d->asked;
        return check_scope_of_refresh(d);
}

static int check_scope(struct deciding *d) {
        struct grant *grant = d->grant;
        int r = read_scope(d);

        if (r != 0)
                return r;
        if (!ask_policies(d, d->wanted))
                return refuse(d, REFUSE_SCOPE,
                              d->asked.kind == SCOPE_NONE && !is_refresh(d)
                                      ? "RFC 6749 §3.3: no scope is asked, and no active policy allows any part of the "
                                        "default scope"
                                      : "RFC 6749 §3.3: no active policy allows any part of the scope");

        /* RFC 6749 §5.1: to be told unless it is what was asked */
        grant->scope_differs = !scope_equal(&d->asked, &grant->scope);
        if (d->why)
                d->why->granted = grant->scope;
        return set_lifetime(d);
}

/* What policies that are only tried would have changed, where it is policies that decided. */
static void tell_shadow(struct deciding *d, int refusal) {
        struct explanation *why = d->why;
        const char *said = why->why;
        struct policy_answer tried;

        if (!policy_has_shadow(&d->question) ||
            (refusal != 0 && refusal != REFUSE_AUDIENCE && refusal != REFUSE_SCOPE) ||
            (d->facts->n_servers == 1 && d->facts->server.suspended))
                return;
        if (!d->wanted) {
                (void)read_scope(d); /* refused for the audience already */
                why->why = said;
        }
        if (!d->wanted || !policy_try_shadow(&d->question, d->wanted, &d->policy, &tried))
                return;
        why->has_shadow = true;
        why->shadow = tried.scope;
}

static profile_set profile_of(const struct osc *osc) {
        return PROFILE_BIT(osc->alg != AEAD_NONE ? PROFILE_COAP_OSCORE : PROFILE_COAP_DTLS);
}

/* A key serves one profile all its life; a new one may serve any. */
static profile_set profiles_of_key(const struct deciding *d) {
        const struct token_facts *facts = d->facts;
        enum ask_cnf cnf = d->ask->cnf;

        if (is_refresh(d))
                return profile_of(&facts->refresh.osc);
        if (facts->pop_key_found)
                return profile_of(&facts->pop_osc);
        if (facts->public_key.curve != CURVE_NONE || cnf == ASK_CNF_PUBLIC || cnf == ASK_CNF_UNSUPPORTED ||
            cnf == ASK_CNF_BAD_KEY || (cnf == ASK_CNF_KID && d->ask->kid_in_key))
                return PROFILE_BIT(PROFILE_COAP_DTLS);
        return PROFILES_SERVED;
}

/* RFC 9200 §5.8.2 leaves the choice to us. */
static unsigned choose_profile(const struct deciding *d, profile_set possible, const char **ret_from) {
        const struct {
                unsigned profile;
                const char *from;
        } wishes[] = {
                { d->facts->server.preferred_profile, "resource server" },
                { d->facts->channel_profile, "channel" },
        };

        for (size_t i = 0; i < N_ELEMENTS(wishes); i++)
                if (wishes[i].profile != 0 && (possible & PROFILE_BIT(wishes[i].profile))) {
                        *ret_from = wishes[i].from;
                        return wishes[i].profile;
                }
        *ret_from = "number";
        return (unsigned)__builtin_ctz(possible);
}

static bool is_one(profile_set set) {
        return (set & (set - 1)) == 0;
}

static int check_profile(struct deciding *d) {
        profile_set common = d->facts->client.profiles & d->facts->server.profiles & PROFILES_SERVED, possible;
        const char *from;

        if (common == 0)
                return refuse(d, REFUSE_PROFILE,
                              "RFC 9200 §5.8.2: client and resource server have no profile in common that is served");
        if (!server_takes_oscore(&d->facts->server))
                common &= ~PROFILE_BIT(PROFILE_COAP_OSCORE);
        if (common == 0)
                return refuse(d, REFUSE_PROFILE,
                              "RFC 9203 §3.2: coap_oscore, the only profile in common, takes symmetric keys and tokens "
                              "that are encrypted, which the resource server's are not");
        possible = common & profiles_of_key(d);
        if (possible == 0)
                return refuse(d, REFUSE_PROFILE,
                              "RFC 9200 §5.8.2: the key that is asked for is of a profile that client and resource "
                              "server do not have in common");

        d->grant->profile = choose_profile(d, possible, &from);
        /* RFC 9200 §5.8.2: not told, the client is taken to know it */
        d->grant->tell_profile = d->ask->wants_profile || !is_one(possible);
        if (d->why) {
                d->why->profile = d->grant->profile;
                d->why->profile_from = is_one(common) ? "parties" : is_one(possible) ? "key" : from;
        }
        return 0;
}

/* A key of this kind, which the resource server must be able to work with (AS-057). */
static int check_kind(struct deciding *d, enum curve curve) {
        pop_key_set wanted = curve == CURVE_NONE ? POP_KEY_SYMMETRIC : POP_KEY_BIT(curve);

        if ((d->facts->server.pop_keys & wanted) != 0)
                return 0;
        return refuse(d, REFUSE_POP_KEY,
                      curve == CURVE_NONE
                              ? "RFC 9200 §5.8.3: the resource server works with the client's public keys only: "
                                "req_cnf must have one"
                              : "RFC 9200 §5.8.3: the resource server does not work with keys of this kind");
}

static int check_public_key(struct deciding *d) {
        const struct token_facts *facts = d->facts;
        int r = check_kind(d, facts->public_key.curve);

        if (r != 0)
                return r;
        if (!facts->public_key_proven)
                return refuse(d, REFUSE_KEY_PROOF,
                              "RFC 9201 §3.1: the channel was not set up with this key, nor is it registered as the "
                              "client's");
        /* the client has to be told whom it will talk to; which of a group it is to know by itself (AS-047, AS-083) */
        if (!facts->is_group && !facts->server_has_key)
                return refuse(d, REFUSE_POP_KEY,
                              "RFC 9202 §3.2.1: the resource server has no public key registered that rs_cnf could "
                              "tell the client");
        return 0;
}

static int check_kid(struct deciding *d) {
        const struct token_facts *facts = d->facts;

        if (facts->pop_key_found)
                return check_kind(d, CURVE_NONE);
        if (facts->public_key.curve != CURVE_NONE)
                return check_public_key(d);
        if (d->grant->profile == PROFILE_COAP_OSCORE)
                return refuse(d, REFUSE_OSC_ID,
                              "RFC 9203 §3.1: the kid is the id of no OSCORE_Input_Material that was made for this "
                              "client and this resource server and is in use");
        if (facts->unknown_kid_makes_key && !facts->is_group) /* RFC 9202 §3.3.1 has it so */
                return check_kind(d, CURVE_NONE);
        return refuse(d, REFUSE_POP_KEY,
                      "RFC 9202 §4: the kid is of no live key made for this client and this resource server, and of no "
                      "public key of the client");
}

/* Whether the key is the one asked for. */
static bool is_key_of_refresh(const struct deciding *d) {
        const struct refresh_token *refresh = &d->facts->refresh;
        uint8_t number[NUMBER_SIZE_MAX];
        struct bytes kid = refresh->public_key.curve == CURVE_NONE
                                   ? bytes_of(number, number_to_bytes(refresh->key_number, number))
                                   : bytes_of(refresh->kid, refresh->kid_size);

        if (d->ask->cnf == ASK_CNF_PUBLIC)
                return public_key_equal(&d->ask->public_key, &refresh->public_key);
        if (d->ask->cnf == ASK_CNF_KID && d->ask->kid_in_key && refresh->osc.alg != AEAD_NONE)
                return false;
        return d->ask->cnf == ASK_CNF_NONE || (d->ask->cnf == ASK_CNF_KID && bytes_equal(d->ask->kid, kid));
}

/* AS-029: the key that the family began with, and the proof of it again */
static int check_key_of_refresh(struct deciding *d) {
        if (!is_key_of_refresh(d))
                return refuse(d, REFUSE_REFRESH_CHANGE,
                              "RFC 9200 §5.8.1: req_cnf asks for another key than the refresh token's");
        return d->facts->public_key.curve != CURVE_NONE ? check_public_key(d) : check_kind(d, CURVE_NONE);
}

static int check_key(struct deciding *d) {
        if (is_refresh(d))
                return check_key_of_refresh(d);
        switch (d->ask->cnf) {
        case ASK_CNF_NONE:
                return check_kind(d, CURVE_NONE);
        case ASK_CNF_KID:
                return check_kid(d);
        case ASK_CNF_PUBLIC:
                return check_public_key(d);
        case ASK_CNF_SYMMETRIC_VALUE:
                return refuse(d, REFUSE_KEY_BY_VALUE,
                              "RFC 9201 §3.1: req_cnf carries a symmetric key; the authorization server makes them");
        case ASK_CNF_UNSUPPORTED:
                return refuse(d, REFUSE_POP_KEY,
                              "RFC 9200 §5.8.3: the key in req_cnf is of a kind that nobody here works with");
        case ASK_CNF_BAD_KEY:
                return refuse(d, REFUSE_POP_KEY,
                              "RFC 9053 §7, RFC 9201 §5: the key in req_cnf is no point of its curve, not whole, has a "
                              "private part, an overlong kid, or an algorithm or use that it cannot have");
        case ASK_CNF_UNREADABLE:
                break;
        }
        return refuse(d, REFUSE_REQ_CNF, "RFC 9201 §3.1: req_cnf is not one confirmation method that is known");
}

static int check_cnonce(struct deciding *d) {
        struct bytes cnonce = d->ask->cnonce;

        if (cnonce.data && (cnonce.size == 0 || cnonce.size > CNONCE_SIZE_MAX))
                return refuse(d, REFUSE_CNONCE, "RFC 9200 §5.3.1: cnonce is empty or longer than 32 bytes");
        return 0;
}

static int check_count(struct deciding *d) {
        if (d->facts->tokens_max > 0 && d->facts->n_live_tokens >= d->facts->tokens_max)
                return refuse(d, REFUSE_TOO_MANY_TOKENS,
                              "RFC 9200 §6.1: the client's live tokens are at the configured maximum");
        return 0;
}

static void set_symmetric_key(struct grant *grant, uint64_t number, const struct secret *key, const struct osc *osc) {
        grant->key_number = number;
        (void)secret_set(&grant->pop_key, secret_bytes(key)); /* fits: it is a secret's */
        grant->osc = *osc;
}

static void set_new_key(struct deciding *d) {
        const struct server *server = &d->facts->server;

        d->grant->new_key = true;
        if (d->grant->profile == PROFILE_COAP_OSCORE)
                d->grant->osc = (struct osc){ .alg = server->oscore_alg, .hkdf = server->oscore_hkdf };
        else /* RFC 9202 §3.3.1; one that the server has, or may have lost, it cannot compute from a later token */
                d->grant->derives_key = server->derives_key;
}

static void set_public_key(struct deciding *d) {
        const struct token_facts *facts = d->facts;
        struct grant *grant = d->grant;

        grant->public_key = facts->public_key;
        grant->kid_size = facts->kid_size;
        memcpy(grant->kid, facts->kid, sizeof(grant->kid));
        grant->tell_server_key = facts->server_has_key && !facts->is_group; /* AS-047 */
        grant->server_key = facts->server_key;
}

static void set_key(struct deciding *d) {
        const struct token_facts *facts = d->facts;
        struct grant *grant = d->grant;

        if (facts->public_key.curve != CURVE_NONE)
                set_public_key(d);
        else if (is_refresh(d))
                set_symmetric_key(grant, facts->refresh.key_number, &facts->refresh.pop_key, &facts->refresh.osc);
        else if (facts->pop_key_found)
                set_symmetric_key(grant, facts->pop_key_number, &facts->pop_key, &facts->pop_osc);
        else
                set_new_key(d);
        grant->is_update = d->ask->cnf == ASK_CNF_KID && !grant->new_key;
}

static void fill_grant(struct deciding *d) {
        const struct token_facts *facts = d->facts;
        struct grant *grant = d->grant;

        grant->client_id = facts->client.id;
        grant->is_group = facts->is_group;
        grant->server_id = facts->is_group ? 0 : facts->server.id;
        memcpy(grant->audience, facts->audience, sizeof(grant->audience));
        if (d->ask->cnonce.data) {
                grant->cnonce_size = d->ask->cnonce.size;
                memcpy(grant->cnonce, d->ask->cnonce.data, grant->cnonce_size);
        }
        set_key(d);
        grant->refresh_lifetime_s = facts->client.refresh_lifetime_s;
        grant->refresh_scope = is_refresh(d) ? facts->refresh.scope : grant->scope;
        grant->family = is_refresh(d) ? facts->refresh.family : 0;
}

static const char *why_granted(const struct deciding *d) {
        if (is_refresh(d))
                return "RFC 6749 §6: policy still allows what the refresh token stands for";
        if (d->asked.kind == SCOPE_NONE)
                return "RFC 6749 §3.3: no scope was asked; this is what policy allows of the default scope";
        if (d->grant->scope_differs)
                return "RFC 6749 §3.3: policy allows a part of the scope that was asked";
        return "RFC 9200 §5.8.2: policy allows the scope";
}

int grant_decide(const struct token_facts *facts, const struct token_ask *ask, int64_t now_s, struct grant *ret_grant,
                 struct explanation *why) {
        /* the order of RFC 6749 §5.2's errors is free; a request with several faults always gets the first of these */
        static int (*const checks[])(struct deciding *) = {
                check_client, check_grant_type, check_right, check_refresh_token, check_refresh_audience,
                check_audience, check_scope, check_profile, check_key, check_cnonce, check_count,
        };
        struct deciding d = {
                .facts = facts,
                .ask = ask,
                .now_s = now_s,
                .question = {
                        .policies = facts->policies,
                        .n_policies = facts->n_policies,
                        .known = &facts->server.scopes,
                        .now_s = now_s,
                        .takes_nbf = facts->server.has_clock && !facts->is_group,
                },
                .grant = ret_grant,
                .why = why,
        };
        int r = 0;

        *ret_grant = (struct grant){ 0 };
        if (why)
                *why = (struct explanation){ 0 };

        for (size_t i = 0; i < N_ELEMENTS(checks) && r == 0; i++)
                r = checks[i](&d);
        if (r == 0) {
                fill_grant(&d);
                if (why)
                        why->why = why_granted(&d);
        }
        if (why) {
                tell_shadow(&d, r);
                why->refusal = r;
        }
        return r;
}
