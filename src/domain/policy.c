#include "domain/policy.h"

bool policy_is_active(const struct policy *policy, int64_t now_s) {
        return (policy->valid_from_s == 0 || policy->valid_from_s <= now_s) &&
               (policy->valid_until_s == 0 || now_s < policy->valid_until_s);
}
