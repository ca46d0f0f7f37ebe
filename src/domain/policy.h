#pragma once

#include "domain/name.h"
#include "domain/scope.h"

enum policy_effect { /* kept in databases */
        POLICY_ALLOW = 1,
        POLICY_DENY = 2, /* takes away what others allow; scopes NONE: everything at the audience */
};

/*
 * Who may have which scope at which audience. What no policy allows is denied; what one denies is, whatever others
 * allow. audience and scopes of a policy may have variables: ${client} is the client's name, ${audience} (in scopes) the
 * audience asked, ${KEY} the VALUE of the client's label KEY:VALUE.
 */
struct policy {
        int64_t id;
        bool for_label;                       /* subject is a label, else a client's name */
        char subject[NAME_SIZE_MAX + 1];
        char audience[AUDIENCE_SIZE_MAX + 1];
        enum policy_effect effect;
        bool is_shadow;                       /* evaluated and told, not enforced */
        struct scope scopes;
        int64_t max_lifetime_s;               /* 0: no own maximum */
        int64_t valid_from_s, valid_until_s;  /* 0: open; from <= now < until */
        int64_t advance_s;                    /* so long before valid_from_s tokens are given, not valid before it: nbf */
        unsigned weekdays;                    /* bit 0 Monday … bit 6 Sunday, UTC; 0: every day */
        int64_t day_from_s, day_until_s;      /* seconds of the day, UTC; from > until: over midnight; both 0: all day */
        int64_t created_s;
};

bool policy_is_active(const struct policy *policy, int64_t now_s);

/* What policies are asked. They are all those for one client (by name or label) at one audience. */
struct policy_question {
        const struct policy *policies;
        size_t n_policies;
        const struct scope *known;  /* all that the resource server knows; NONE: any */
        int64_t now_s;
        bool takes_nbf;             /* a token can say when it begins to be valid */
};

#define EXPLAIN_POLICIES_MAX 16
struct policy_answer {
        struct scope scope;         /* the part of what was wanted that they allow, in its order; NONE: nothing */
        struct scope allowed;       /* all that they allow, as much as can be told */
        int64_t policies[EXPLAIN_POLICIES_MAX]; /* ids of those that contributed to scope, the first ones */
        size_t n_policies;          /* all that contributed, also beyond the array */
        int64_t max_lifetime_s;     /* the shortest of those that allow a part of scope; 0: they set none */
        int64_t until_s;            /* when the first of their periods ends; 0: never */
        int64_t nbf_s;              /* when they begin, if that is to come; 0: they have */
};

/* Does any of them let the client use the audience now? */
bool policy_is_open(const struct policy_question *question);

/* Unite them: the scope is what any active one allows of what is wanted. True when something is left. */
bool policy_evaluate(const struct policy_question *question, const struct scope *wanted, struct policy_answer *ret);
