// SPDX-License-Identifier: Apache-2.0
#include "agent/evidence.h"

#include "shared/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PID_BITS 0x3fffffu // of a process number, and of libnl's ports (lib/socket.c)

static bool read_name(uint32_t pid, char *name, size_t size)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/%u/comm", pid);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, name, size - 1);
	if (n <= 0)
		return false;
	name[n] = '\0';
	name[strcspn(name, "\n")] = '\0';
	for (char *c = name; *c; c++)
		*c = (char)(*c < ' ' || *c > '~' ? '?' : *c); // a process calls itself what it likes
	return true;
}

void evidence_name(uint32_t port, char who[EVIDENCE_WHO_MAX])
{
	const uint32_t pid = port & PID_BITS;
	char name[20];

	// a port below zero is the kernel's own choice
	if (!pid || (int32_t)port < 0)
		snprintf(who, EVIDENCE_WHO_MAX, EVIDENCE_NOBODY);
	else if (read_name(pid, name, sizeof(name)))
		snprintf(who, EVIDENCE_WHO_MAX, "%s (pid %u)", name, pid);
	else
		snprintf(who, EVIDENCE_WHO_MAX, "process %u, gone by now", pid);
}

// --- reading events ---

static bool read_address(struct nlmsghdr *hdr, struct evidence_event *event)
{
	const struct ifaddrmsg *msg = nlmsg_data(hdr);
	struct nlattr *attrs[IFA_MAX + 1];

	if (nlmsg_parse(hdr, sizeof(*msg), attrs, IFA_MAX, NULL) < 0)
		return false;
	const struct nlattr *addr = attrs[IFA_LOCAL] ? attrs[IFA_LOCAL] : attrs[IFA_ADDRESS];

	event->kind = RESOURCE_VIP;
	return addr &&
		!inet_addr_from_bytes(msg->ifa_family, nla_data(addr), (unsigned int)nla_len(addr), &event->addr);
}

static bool read_link(struct nlmsghdr *hdr, struct evidence_event *event)
{
	const struct ifinfomsg *msg = nlmsg_data(hdr);
	struct nlattr *attrs[IFLA_MAX + 1];

	if ((hdr->nlmsg_type == RTM_NEWLINK && msg->ifi_flags & IFF_UP) ||
		nlmsg_parse(hdr, sizeof(*msg), attrs, IFLA_MAX, NULL) < 0 || !attrs[IFLA_IFNAME])
		return false;
	event->kind = RESOURCE_DEVICE;
	nla_strlcpy(event->dev, attrs[IFLA_IFNAME], sizeof(event->dev));
	return true;
}

static bool read_route(struct nlmsghdr *hdr, struct evidence_event *event)
{
	const struct rtmsg *msg = nlmsg_data(hdr);
	struct nlattr *attrs[RTA_MAX + 1];

	if (nlmsg_parse(hdr, sizeof(*msg), attrs, RTA_MAX, NULL) < 0)
		return false;
	event->kind = RESOURCE_ROUTE;
	event->addr.family = msg->rtm_family;
	event->table = attrs[RTA_TABLE] ? nla_get_u32(attrs[RTA_TABLE]) : msg->rtm_table;
	return event->table != RT_TABLE_MAIN && event->table != RT_TABLE_LOCAL;
}

static bool read_rule(struct nlmsghdr *hdr, struct evidence_event *event)
{
	const struct fib_rule_hdr *msg = nlmsg_data(hdr);
	struct nlattr *attrs[FRA_MAX + 1];

	if (nlmsg_parse(hdr, sizeof(*msg), attrs, FRA_MAX, NULL) < 0 || !attrs[FRA_SRC])
		return false;
	event->kind = RESOURCE_RULE;
	event->table = attrs[FRA_TABLE] ? nla_get_u32(attrs[FRA_TABLE]) : msg->table;
	return !inet_addr_from_bytes(
		msg->family, nla_data(attrs[FRA_SRC]), (unsigned int)nla_len(attrs[FRA_SRC]), &event->addr);
}

// What takes something away, or changes it.
static const struct {
	uint16_t type;
	bool (*read)(struct nlmsghdr *hdr, struct evidence_event *event);
} readers[] = {
	{ RTM_DELADDR, read_address },
	{ RTM_DELLINK, read_link },
	{ RTM_NEWLINK, read_link }, // set down
	{ RTM_DELROUTE, read_route },
	{ RTM_NEWROUTE, read_route }, // replaced
	{ RTM_DELRULE, read_rule },
};

void evidence_note(struct evidence *evidence, struct nlmsghdr *hdr)
{
	struct evidence_event event = { .is_set = true };

	if (hdr->nlmsg_pid && ((hdr->nlmsg_pid ^ evidence->own) & PID_BITS) == 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++) {
		if (readers[i].type != hdr->nlmsg_type || !readers[i].read(hdr, &event))
			continue;
		// a device that goes takes its routes along, in all tables: that is the kernel's doing, and nobody's
		if (event.kind == RESOURCE_ROUTE && !hdr->nlmsg_pid)
			return;
		const struct evidence_event *last = &evidence->events[(evidence->next - 1) % EVIDENCE_KEPT];

		event.port = hdr->nlmsg_pid;
		if (evidence->next && last->port == event.port) // many in a row are of one
			memcpy(event.who, last->who, sizeof(event.who));
		else
			evidence_name(event.port, event.who);
		evidence->events[evidence->next++ % EVIDENCE_KEPT] = event;
	}
}

// --- asking ---

static bool is_about(const struct evidence_event *event, const struct resource *what)
{
	const bool is_table = what->kind == RESOURCE_MIRROR || what->kind == RESOURCE_ROUTE;

	if (!event->is_set || event->kind != (is_table ? RESOURCE_ROUTE : what->kind))
		return false;
	if (is_table)
		return event->table == what->table && event->addr.family == what->addr.family;
	if (what->kind == RESOURCE_DEVICE)
		return strcmp(event->dev, what->dev) == 0;
	return inet_addr_cmp(&event->addr, &what->addr) == 0 &&
		(what->kind != RESOURCE_RULE || event->table == what->table);
}

const char *evidence_find(const struct evidence *evidence, const struct resource *what)
{
	for (size_t i = 1; i <= EVIDENCE_KEPT; i++) {
		const struct evidence_event *event = &evidence->events[(evidence->next - i) % EVIDENCE_KEPT];

		if (is_about(event, what))
			return event->who;
	}
	return NULL;
}

void evidence_forget(struct evidence *evidence, const struct resource *what)
{
	for (size_t i = 0; i < EVIDENCE_KEPT; i++)
		if (is_about(&evidence->events[i], what))
			evidence->events[i].is_set = false;
}
