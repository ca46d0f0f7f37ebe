#pragma once

struct invocation;

/* acectl token revoke CTI | --client | --rs | --label. A status. */
int run_token_revoke(struct invocation *invocation);
