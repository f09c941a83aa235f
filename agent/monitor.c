// SPDX-License-Identifier: Apache-2.0
#include "agent/monitor.h"

#include "agent/nft.h"
#include "shared/log.h"
#include "shared/loop.h"
#include "shared/netsock.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stdlib.h>

#define PAUSE_MS 20

struct monitor {
	uv_loop_t *loop;
	struct netsock *events, *nft_events; // nft_events NULL: not watched
	uv_poll_t poll, nft_poll;
	uv_timer_t soon, later, periodic;
	struct evidence *evidence;
	int open_handles;
	msec_t last_ms; // when look was last called
	bool watches_main;
	void (*look)(void *ctx);
	void *ctx;
};

static void on_soon(uv_timer_t *timer);

void monitor_wake(struct monitor *monitor)
{
	msec_t since = clock_now_ms() - monitor->last_ms;

	if (uv_is_active((uv_handle_t *)&monitor->soon))
		return;
	uv_update_time(monitor->loop);
	uv_timer_start(&monitor->soon, on_soon, since < PAUSE_MS ? (uint64_t)(PAUSE_MS - since) : 0, 0);
}

// All but routes in the tables where we have none: a host may have a million of those, always on the move.
static bool is_ours(const struct monitor *monitor, const struct rtmsg *route)
{
	if (route->rtm_table == RT_TABLE_MAIN)
		return monitor->watches_main;
	return route->rtm_table != RT_TABLE_LOCAL;
}

static void on_event(struct nlmsghdr *hdr, void *ctx)
{
	bool is_route = hdr->nlmsg_type == RTM_NEWROUTE || hdr->nlmsg_type == RTM_DELROUTE;
	struct monitor *monitor = ctx;

	if (is_route && !is_ours(monitor, nlmsg_data(hdr)))
		return;
	evidence_note(monitor->evidence, hdr);
	monitor_wake(monitor);
}

void monitor_wake_in(struct monitor *monitor, msec_t ms)
{
	uv_update_time(monitor->loop);
	if (ms < 0)
		uv_timer_stop(&monitor->later);
	else
		uv_timer_start(&monitor->later, on_soon, (uint64_t)ms, 0);
}

void monitor_set_interval(struct monitor *monitor, msec_t interval_ms)
{
	uv_timer_start(&monitor->periodic, on_soon, (uint64_t)interval_ms, (uint64_t)interval_ms);
}

void monitor_watch_main(struct monitor *monitor, bool matters)
{
	monitor->watches_main = matters;
}

// What has happened is noted first: a look for another reason would repair it, and nobody would know who it was.
static void receive(struct monitor *monitor)
{
	if (netsock_receive(monitor->events, on_event, monitor) == -ENOBUFS) {
		log_debug("events were lost: looking at everything");
		monitor_wake(monitor);
	}
}

static void on_soon(uv_timer_t *timer)
{
	struct monitor *monitor = timer->data;

	receive(monitor);
	uv_timer_stop(&monitor->soon);
	monitor->last_ms = clock_now_ms();
	monitor->look(monitor->ctx);
}

static void on_events(uv_poll_t *poll, int status, int events)
{
	(void)events;
	loop_poll_on(poll, status, on_events);
	receive(poll->data);
}

static void on_nft_event(struct nlmsghdr *hdr, void *ctx)
{
	if (nft_is_about_us(hdr))
		monitor_wake(ctx);
}

static void on_nft_events(uv_poll_t *poll, int status, int events)
{
	struct monitor *monitor = poll->data;

	(void)events;
	loop_poll_on(poll, status, on_nft_events);
	if (netsock_receive(monitor->nft_events, on_nft_event, monitor) == -ENOBUFS)
		monitor_wake(monitor);
}

void monitor_watch_nft(struct monitor *monitor)
{
	static const int groups[] = { NFNLGRP_NFTABLES, 0 };
	struct err err = { 0 };

	if (monitor->nft_events)
		return;
	if (netsock_subscribe(NETLINK_NETFILTER, groups, &monitor->nft_events, &err)) {
		log_debug("%s: nftables is looked at from time to time only", err.text);
		return;
	}
	uv_poll_init(monitor->loop, &monitor->nft_poll, netsock_fd(monitor->nft_events));
	monitor->nft_poll.data = monitor;
	monitor->open_handles++;
	uv_poll_start(&monitor->nft_poll, UV_READABLE, on_nft_events);
}

static void on_closed(uv_handle_t *handle)
{
	struct monitor *monitor = handle->data;

	if (--monitor->open_handles)
		return;
	netsock_free(monitor->nft_events);
	netsock_free(monitor->events);
	free(monitor);
}

int monitor_new(uv_loop_t *loop, msec_t interval_ms, struct evidence *evidence, void (*look_fn)(void *ctx), void *ctx,
	struct monitor **ret, struct err *err)
{
	static const int groups[] = { RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_RULE,
		RTNLGRP_IPV6_RULE, RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, 0 };
	struct monitor *monitor = calloc(1, sizeof(*monitor));

	if (!monitor)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	int rc = netsock_subscribe(NETLINK_ROUTE, groups, &monitor->events, err);
	if (rc) {
		free(monitor);
		return rc;
	}
	monitor->loop = loop;
	monitor->evidence = evidence;
	monitor->look = look_fn;
	monitor->ctx = ctx;
	monitor->last_ms = clock_now_ms() - PAUSE_MS;
	uv_poll_init(loop, &monitor->poll, netsock_fd(monitor->events));
	uv_timer_init(loop, &monitor->soon);
	uv_timer_init(loop, &monitor->later);
	uv_timer_init(loop, &monitor->periodic);
	monitor->open_handles = 4;
	monitor->poll.data = monitor->soon.data = monitor->later.data = monitor->periodic.data = monitor;
	uv_poll_start(&monitor->poll, UV_READABLE, on_events);
	uv_timer_start(&monitor->periodic, on_soon, (uint64_t)interval_ms, (uint64_t)interval_ms);
	*ret = monitor;
	return 0;
}

void monitor_free(struct monitor *monitor)
{
	if (!monitor)
		return;
	uv_poll_stop(&monitor->poll);
	uv_close((uv_handle_t *)&monitor->poll, on_closed);
	if (monitor->nft_events)
		uv_close((uv_handle_t *)&monitor->nft_poll, on_closed);
	uv_close((uv_handle_t *)&monitor->soon, on_closed);
	uv_close((uv_handle_t *)&monitor->later, on_closed);
	uv_close((uv_handle_t *)&monitor->periodic, on_closed);
}
