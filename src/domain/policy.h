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
