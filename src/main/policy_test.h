#pragma once

struct invocation;

/*
 * acectl policy test FILE: ask aced about each expectation of the file (acectl(1) has the format) and say which of them
 * do not hold, and why. STATUS_DONE: all hold; STATUS_REFUSED: some do not; STATUS_USAGE: the file has mistakes,
 * nothing was asked; or another status.
 */
int run_policy_test(struct invocation *invocation);
