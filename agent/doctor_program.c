// SPDX-License-Identifier: Apache-2.0
// Does a program of this host serve? As the agent asks (local.h): a socket that listens, or a check from here.
#include "agent/doctor_checks.h"

#include "agent/sockets.h"

#include <string.h>

struct waiting {
	uv_loop_t *loop;
	enum check_outcome outcome;
	char reason[PROTOCOL_REASON_MAX + 1];
};

static void on_result(void *ctx, const struct check_result *result)
{
	struct waiting *w = ctx;

	w->outcome = result->outcome;
	snprintf(w->reason, sizeof(w->reason), "%s", result->reason);
	uv_stop(w->loop);
}

static void run_check(
	struct doctor *d, const struct doctor_case *c, const struct check_spec *spec, const struct inet_endpoint *at)
{
	const struct check_env env = {
		.loop = &d->loop,
		.http = d->http,
	};
	struct waiting w = { &d->loop, CHECK_BROKEN, "it did not end" };
	const struct check_about about = { c->service->name, NULL, at->addr, c->service->protocol };
	const struct check_target target = { .to = *at, .about = &about };
	struct check *check;
	int rc = check_start(&env, spec, &target, on_result, &w, &check);

	if (!rc)
		uv_run(&d->loop, UV_RUN_DEFAULT);
	if (rc)
		doctor_say(&d->report, DOCTOR_UNSEEN, "cannot start the check: %s", strerror(-rc));
	else
		doctor_say(&d->report, w.outcome == CHECK_PASS ? DOCTOR_OK : DOCTOR_WRONG, "%s",
			w.outcome == CHECK_PASS ? "the check passes" : w.reason);
}

static void find_listener(struct doctor *d, const struct doctor_case *c, const struct inet_endpoint *at)
{
	struct sockets_listener l = { .at = *at, .protocol = c->service->protocol };
	const char *protocol = field_choice_name(transport_choices, c->service->protocol);
	char here[INET_ENDPOINT_MAX], other[INET_ENDPOINT_MAX];
	struct err err = { 0 };

	inet_endpoint_format(at, here);
	if (sockets_find_listeners(&l, 1, &err))
		doctor_say(&d->report, DOCTOR_UNSEEN, "%s", err.text);
	else if (l.there)
		doctor_say(&d->report, DOCTOR_OK, "a program listens on %s %s", protocol, here);
	else if (l.elsewhere.port)
		doctor_say(&d->report, DOCTOR_WRONG,
			"a program listens on %s only, not on %s: let it listen on all addresses, or on this one too",
			inet_endpoint_format(&l.elsewhere, other), here);
	else
		doctor_say(&d->report, DOCTOR_WRONG, "no program listens on %s %s (here; in a container: check: none)",
			protocol, here);
}

void doctor_check_program(struct doctor *d, const struct doctor_case *c)
{
	const struct inet_endpoint at = { c->service->method == FORWARD_NAT ? d->answers.address : c->service->vip,
		c->service->port };
	const struct local_check *check = c->check;

	if (check->kind == LOCAL_CHECK)
		run_check(d, c, &check->spec, &at);
	else if (check->kind == LOCAL_LISTEN &&
		(c->service->protocol == IPPROTO_TCP || c->service->protocol == IPPROTO_UDP))
		find_listener(d, c, &at);
}
