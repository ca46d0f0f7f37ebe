#pragma once

#include "domain/name.h"
#include "domain/scope.h"

#define POLICY_ADVANCE_MAX_S 604800
#define EXPLAIN_POLICIES_MAX 16 /* told by their ids */

enum policy_effect { /* kept in databases */
        POLICY_ALLOW = 1,
        POLICY_DENY = 2, /* takes away what others allow; scopes NONE: everything at the audience */
};

/* What became of a policy's variables (variable.h). */
enum policy_fit {
        POLICY_FITS,        /* it has none, or all have their values */
        POLICY_LACKS_LABEL, /* the client has no label of one's name: the policy is not for this client */
        POLICY_ELSEWHERE,   /* it is about other audiences */
        POLICY_TOO_LARGE,   /* the scopes are too long, or the ways too many: it allows nothing, or denies everything */
};

/*
 * Who may have which scope at which audience. What no policy allows is denied; what one denies is, whatever others
 * allow. audience and scopes of a policy may have variables: see variable.h.
 */
struct policy {
        int64_t id;
        bool for_label;                       /* subject is a label, else a client's name */
        bool audience_varies;                 /* audience has variables */
        char subject[NAME_SIZE_MAX + 1];
        char audience[AUDIENCE_SIZE_MAX + 1];
        enum policy_effect effect;
        bool is_shadow;                       /* evaluated and told, not enforced */
        enum policy_fit fit;
        struct scope scopes;
        int64_t max_lifetime_s;               /* 0: no own maximum */
        int64_t valid_from_s, valid_until_s;  /* 0: open; from <= now < until */
        int64_t advance_s;                    /* so long before its time tokens are given, not valid before it: nbf */
        unsigned weekdays;                    /* bit 0 Monday … bit 6 Sunday, UTC; 0: every day */
        int64_t day_from_s, day_until_s;      /* seconds of the day, UTC; from > until: over midnight; 0, 0: all day */
        int64_t created_s;
};

/* ---- time */

/* The whole of a policy's period, or a part of it: from <= t < until. */
struct policy_period {
        int64_t from_s, until_s; /* INT64_MIN, INT64_MAX: open */
};

/* The period that holds at at_s or, if none does, the next one. False: there is none any more. */
bool policy_period(const struct policy *policy, int64_t at_s, struct policy_period *ret);
bool policy_is_active(const struct policy *policy, int64_t now_s);

/* ---- decision */

/* What policies are asked. They are all those for one client (by name or label) at one audience. */
struct policy_question {
        const struct policy *policies;
        size_t n_policies;
        const struct scope *known;  /* all that the resource server knows; NONE: any */
        int64_t now_s;
        bool takes_nbf;             /* a token can say when it begins to be valid */
        bool with_shadow;           /* as if those that are only tried were in force */
};

struct policy_answer {
        struct scope scope;         /* the part of what was wanted that they allow, in its order; NONE: nothing */
        struct scope allowed;       /* all that they allow, as much as can be told */
        int64_t policies[EXPLAIN_POLICIES_MAX]; /* ids of those that allow a part of scope, the first ones */
        size_t n_policies;          /* all that do, also beyond the array */
        int64_t max_lifetime_s;     /* the shortest of theirs; 0: they set none */
        int64_t until_s;            /* when the first of their periods ends, or a denial of a part begins; 0: never */
        int64_t nbf_s;              /* when they begin, if that is to come; 0: they have */
};

/* Does any policy let the client use the audience, now or soon enough, and none deny it as a whole? */
bool policy_is_open(const struct policy_question *question);

/*
 * Unite what policies allow of what is wanted, less what others deny. Only if that is nothing, and tokens can be given
 * in advance, what policies allow from the moment on at which the first of them begins. True when something is left.
 */
bool policy_evaluate(const struct policy_question *question, const struct scope *wanted, struct policy_answer *ret);

/* Are there policies that are only tried? */
bool policy_has_shadow(const struct policy_question *question);

/*
 * What would the answer have been with those policies in force that are only tried? True when it differs from this one,
 * and only then there is something in *ret.
 */
bool policy_try_shadow(const struct policy_question *question, const struct scope *wanted,
                       const struct policy_answer *enforced, struct policy_answer *ret);

/* How a policy takes part, for people. */
enum policy_part {
        POLICY_IN_FORCE,
        POLICY_AHEAD,      /* its time has not come, but tokens may be given in advance */
        POLICY_NOT_YET,
        POLICY_OVER,
        POLICY_OUT_OF_HOURS,
        POLICY_NOT_FITTING, /* see fit */
};
enum policy_part policy_part(const struct policy *policy, int64_t now_s, bool takes_nbf);
