// SPDX-License-Identifier: Apache-2.0
#include "agent/local.h"

#include "agent/sockets.h"
#include "shared/log.h"
#include "shared/loop.h"
#include "shared/protocol.h"
#include "shared/utf8.h"
#include "shared/util.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define LOOK_MS 1000

// One item, from the first time that it is wanted on. Lives until its timer is closed.
struct watch {
	struct watch *next;
	struct local *local;
	struct local_item item;
	struct local_check own;              // the item's
	char service[PROTOCOL_NAME_MAX + 1]; // the item's
	bool wanted, known;
	char problem[PROTOCOL_REASON_MAX + 1];
	struct check *check; // running, or NULL
	uv_timer_t timer;    // of the check
};

struct local {
	struct check_env env;
	struct check_lingering lingering;
	void (*changed)(void *ctx);
	void *ctx;
	uv_timer_t timer; // of the sockets
	struct netsock *diag;
	struct netsock *closing; // NULL: the kernel does not tell
	uv_poll_t heard;         // of closing
	struct watch *watches;
};

static const char *protocol_name(int protocol)
{
	return field_choice_name(transport_choices, protocol);
}

// Returns whether it says something else than before.
static bool learn(struct watch *watch, const char *problem)
{
	char at[INET_ENDPOINT_MAX];

	// a failing check words its reason anew each time; that alone is no news
	const bool is_check = watch->item.check->kind == LOCAL_CHECK;

	if (watch->known && (strcmp(watch->problem, problem) == 0 || (is_check && *watch->problem && *problem)))
		return false;
	if (*problem)
		log_warning("%s", problem);
	else if (watch->known)
		log_info("%s %s is served again", protocol_name(watch->item.protocol),
			inet_endpoint_format(&watch->item.at, at));
	snprintf(watch->problem, sizeof(watch->problem), "%s", problem);
	utf8_mend(watch->problem); // it may be cut, and goes into a report
	watch->known = true;
	return true;
}

// --- sockets ---

static bool learn_listener(struct watch *watch, const struct sockets_listener *found)
{
	char at[INET_ENDPOINT_MAX], other[INET_ENDPOINT_MAX], problem[PROTOCOL_REASON_MAX + 1] = "";

	inet_endpoint_format(&watch->item.at, at);
	if (!found->there && found->elsewhere.port)
		snprintf(problem, sizeof(problem),
			"a program listens on %s only, not on %s: let it listen on all addresses, or on this one too",
			inet_endpoint_format(&found->elsewhere, other), at);
	else if (!found->there)
		snprintf(problem, sizeof(problem), "no program listens on %s %s", protocol_name(watch->item.protocol),
			at);
	return learn(watch, problem);
}

static bool listens(const struct watch *watch)
{
	return watch->wanted && watch->item.check->kind == LOCAL_LISTEN &&
		(watch->item.protocol == IPPROTO_TCP || watch->item.protocol == IPPROTO_UDP);
}

static bool look_at_sockets(struct local *local)
{
	size_t count = 0, i = 0;
	bool changed = false;
	struct err err = { 0 };

	for (const struct watch *w = local->watches; w; w = w->next)
		count += listens(w);
	_cleanup_free_ struct sockets_listener *found = calloc(count + 1, sizeof(*found));
	for (const struct watch *w = local->watches; found && w; w = w->next)
		if (listens(w))
			found[i++] = (struct sockets_listener) { .at = w->item.at, .protocol = w->item.protocol };
	if (!found || (count && sockets_find_listeners_on(local->diag, found, count, &err))) {
		log_error("cannot see who listens here: %s", found ? err.text : "out of memory");
		return false;
	}
	i = 0;
	for (struct watch *w = local->watches; w; w = w->next)
		if (listens(w))
			changed |= learn_listener(w, &found[i++]);
	return changed;
}

// A listener may have gone: the timer would see it within a second, and this is at once.
static void on_closing(uv_poll_t *poll, int status, int events)
{
	struct local *local = poll->data;

	(void)events;
	loop_poll_on(poll, status, on_closing);
	netsock_receive(local->closing, NULL, NULL);
	if (look_at_sockets(local))
		local->changed(local->ctx);
}

// Only of what is looked for; of nothing while nothing is.
static void hear_closing(struct local *local)
{
	_cleanup_free_ uint16_t *ports = NULL;
	size_t count = 0, n = 0;

	for (const struct watch *w = local->watches; w; w = w->next)
		count += listens(w);
	ports = calloc(count + 1, sizeof(*ports));
	if (!local->closing || !ports)
		return;
	for (const struct watch *w = local->watches; w; w = w->next)
		if (listens(w))
			ports[n++] = w->item.at.port;
	if (n && sockets_hear_ports(local->closing, ports, n) == 0)
		uv_poll_start(&local->heard, UV_READABLE, on_closing);
	else
		uv_poll_stop(&local->heard);
}

static void on_look(uv_timer_t *timer)
{
	struct local *local = timer->data;

	if (look_at_sockets(local))
		local->changed(local->ctx);
}

// --- checks ---

static void on_result(void *ctx, const struct check_result *result)
{
	struct watch *watch = ctx;

	watch->check = NULL;
	if (learn(watch, result->outcome == CHECK_PASS ? "" : result->reason))
		watch->local->changed(watch->local->ctx);
}

static void on_interval(uv_timer_t *timer)
{
	struct watch *watch = timer->data;

	if (watch->check)
		return; // the last one still runs
	const struct check_about about = {
		.service = watch->item.service,
		.vip = watch->item.at.addr,
		.protocol = watch->item.protocol,
	};
	const struct check_target target = { .to = watch->item.at, .about = &about };
	int rc = check_start(&watch->local->env, &watch->item.check->spec, &target, on_result, watch, &watch->check);
	if (rc) {
		const char *command = watch->item.check->spec.args.command;
		char reason[CHECK_COMMAND_MAX + 120];

		snprintf(reason, sizeof(reason), "cannot %s %s: %s", *command ? "run" : "start",
			*command ? command : "the check", strerror(-rc));
		on_result(watch, &(struct check_result) { CHECK_BROKEN, reason, 0 });
	}
}

// --- what is wanted ---

static bool same_check(const struct local_check *a, const struct local_check *b)
{
	char names[256];

	return a->kind == b->kind &&
		(a->kind != LOCAL_CHECK || !field_diff(&check_fields, &a->spec, &b->spec, names, sizeof(names)));
}

static bool same_place(const struct local_item *a, const struct local_item *b)
{
	return inet_endpoint_cmp(&a->at, &b->at) == 0 && a->protocol == b->protocol;
}

static struct watch *find(const struct local *local, const struct local_item *item)
{
	struct watch *watch = local->watches;

	while (watch && !(same_place(&watch->item, item) && same_check(&watch->own, item->check)))
		watch = watch->next;
	return watch;
}

// One that nobody wants any more, of the same endpoint.
static struct watch *find_idle(const struct local *local, const struct local_item *item)
{
	struct watch *watch = local->watches;

	while (watch && (watch->wanted || !same_place(&watch->item, item)))
		watch = watch->next;
	return watch;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void drop(struct local *local, struct watch *watch)
{
	LL_DELETE(local->watches, watch);
	check_cancel(watch->check);
	uv_close((uv_handle_t *)&watch->timer, on_closed);
}

static void name_service(struct watch *watch, const struct local_item *item)
{
	snprintf(watch->service, sizeof(watch->service), "%s", item->service ? item->service : "");
	watch->item.service = watch->service;
}

// From now on that is who looks. The verdict stays until then; without anybody who looks there is none to wait for.
static void begin(struct watch *watch, const struct local_item *item)
{
	check_cancel(STEAL(watch->check));
	uv_timer_stop(&watch->timer);
	watch->own = *item->check;
	watch->item = *item;
	watch->item.check = &watch->own;
	name_service(watch, item);
	watch->wanted = true;
	if (item->check->kind == LOCAL_CHECK) {
		uv_timer_start(&watch->timer, on_interval, 0, (uint64_t)item->check->spec.interval_ms);
	} else if (!listens(watch)) { // nobody looks
		watch->known = true;
		watch->problem[0] = '\0';
	}
}

static int add(struct local *local, const struct local_item *item)
{
	struct watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return -ENOMEM;
	watch->local = local;
	uv_timer_init(local->env.loop, &watch->timer);
	watch->timer.data = watch;
	begin(watch, item);
	LL_PREPEND(local->watches, watch);
	return 0;
}

// Items that are new, or whose check is.
static int take(struct local *local, const struct local_item *item)
{
	struct watch *watch = find(local, item);

	if (watch)
		return 0;
	watch = find_idle(local, item);
	if (!watch)
		return add(local, item);
	begin(watch, item);
	return 0;
}

int local_want(struct local *local, const struct local_item *items, size_t count)
{
	struct watch *watch, *next;
	bool any = false, is_new = false;
	int rc = 0;

	LL_FOREACH(local->watches, watch)
	watch->wanted = false;
	for (size_t i = 0; i < count; i++) {
		watch = find(local, &items[i]);
		any |= items[i].check->kind == LOCAL_LISTEN;
		is_new |= !watch;
		if (watch) {
			watch->wanted = true;
			name_service(watch, &items[i]); // it may have another name now
		}
	}
	// only now it is known which of the old ones are free
	for (size_t i = 0; i < count && !rc; i++)
		rc = take(local, &items[i]);
	LL_FOREACH_SAFE(local->watches, watch, next)
	if (!watch->wanted)
		drop(local, watch);
	hear_closing(local);
	if (is_new)
		look_at_sockets(local);
	if (!any)
		uv_timer_stop(&local->timer);
	else if (!uv_is_active((uv_handle_t *)&local->timer))
		uv_timer_start(&local->timer, on_look, LOOK_MS, LOOK_MS);
	return rc;
}

void local_use_http(struct local *local, struct http_client *http)
{
	local->env.http = http;
}

const char *local_problem(const struct local *local, const struct local_item *item)
{
	const struct watch *watch = find(local, item);

	return watch && watch->known ? watch->problem : NULL;
}

// --- life cycle ---

int local_new(uv_loop_t *loop, struct http_client *http, void (*changed)(void *ctx), void *ctx, struct local **ret,
	struct err *err)
{
	struct local *local = calloc(1, sizeof(*local));
	struct err why = { 0 };

	if (!local)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	*local = (struct local) {
		.env = { .loop = loop, .http = http, .lingering = &local->lingering },
		.changed = changed,
		.ctx = ctx,
	};
	int rc = netsock_open(NETLINK_SOCK_DIAG, &local->diag, err);
	if (rc) {
		free(local);
		return rc;
	}
	uv_timer_init(loop, &local->timer);
	local->timer.data = local->heard.data = local;
	if (sockets_hear_closing(&local->closing, &why) == 0 &&
		uv_poll_init(loop, &local->heard, netsock_fd(local->closing)))
		netsock_free(STEAL(local->closing));
	if (!local->closing)
		log_debug("the kernel does not tell of sockets that are closed (%s): who listens is seen once a second",
			why.text);
	*ret = local;
	return 0;
}

// Its memory is the timer's to free.
static void on_deaf(uv_handle_t *handle)
{
	uv_close((uv_handle_t *)&((struct local *)handle->data)->timer, on_closed);
}

void local_free(struct local *local)
{
	struct watch *watch, *next;

	if (!local)
		return;
	LL_FOREACH_SAFE(local->watches, watch, next)
	drop(local, watch);
	check_forget_lingering(&local->lingering);
	netsock_free(local->diag);
	if (!local->closing) {
		uv_close((uv_handle_t *)&local->timer, on_closed);
		return;
	}
	uv_poll_stop(&local->heard);
	netsock_free(local->closing);
	uv_close((uv_handle_t *)&local->heard, on_deaf);
}
