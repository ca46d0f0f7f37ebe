#pragma once

#include "domain/name.h"
#include "domain/scope.h"

/* Who may have which scope at which audience. What no policy allows is denied. */
struct policy {
        int64_t id;
        bool for_label;                       /* subject is a label, else a client's name */
        char subject[NAME_SIZE_MAX + 1];
        char audience[AUDIENCE_SIZE_MAX + 1];
        struct scope scopes;
        int64_t max_lifetime_s;               /* 0: no own maximum */
        int64_t valid_from_s, valid_until_s;  /* 0: open; from <= now < until */
        int64_t created_s;
};

bool policy_is_active(const struct policy *policy, int64_t now_s);
