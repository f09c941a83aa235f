// SPDX-License-Identifier: Apache-2.0
#include "agent/evidence.h"

#include <arpa/inet.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <setjmp.h> // cmocka.h needs these four
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void note(struct evidence *evidence, struct nl_msg *msg, uint32_t port)
{
	nlmsg_hdr(msg)->nlmsg_pid = port;
	evidence_note(evidence, nlmsg_hdr(msg));
	nlmsg_free(msg);
}

static void address(struct evidence *evidence, int type, const char *text, uint32_t port)
{
	struct ifaddrmsg head = { .ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = 1 };
	struct nl_msg *msg = nlmsg_alloc_simple(type, 0);
	struct in_addr addr;

	inet_pton(AF_INET, text, &addr);
	nlmsg_append(msg, &head, sizeof(head), NLMSG_ALIGNTO);
	nla_put(msg, IFA_LOCAL, sizeof(addr), &addr);
	note(evidence, msg, port);
}

static void link_event(struct evidence *evidence, int type, unsigned int flags, const char *name, uint32_t port)
{
	struct ifinfomsg head = { .ifi_index = 5, .ifi_flags = flags };
	struct nl_msg *msg = nlmsg_alloc_simple(type, 0);

	nlmsg_append(msg, &head, sizeof(head), NLMSG_ALIGNTO);
	nla_put_string(msg, IFLA_IFNAME, name);
	note(evidence, msg, port);
}

static void route(struct evidence *evidence, int family, uint32_t table, uint32_t port)
{
	struct rtmsg head = { .rtm_family = (unsigned char)family };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_DELROUTE, 0);

	nlmsg_append(msg, &head, sizeof(head), NLMSG_ALIGNTO);
	nla_put_u32(msg, RTA_TABLE, table);
	note(evidence, msg, port);
}

static void rule(struct evidence *evidence, const char *from, uint32_t table, uint32_t port)
{
	struct fib_rule_hdr head = { .family = AF_INET, .src_len = 32 };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_DELRULE, 0);
	struct in_addr addr;

	inet_pton(AF_INET, from, &addr);
	nlmsg_append(msg, &head, sizeof(head), NLMSG_ALIGNTO);
	nla_put(msg, FRA_SRC, sizeof(addr), &addr);
	nla_put_u32(msg, FRA_TABLE, table);
	note(evidence, msg, port);
}

static struct resource vip(const char *text)
{
	struct resource r = { .kind = RESOURCE_VIP, .dev = "lo" };

	inet_addr_parse(text, &r.addr);
	return r;
}

// A child with a name of its own, and its number as other tests will not have it.
static pid_t child_of_name(const char *name)
{
	int ready[2];
	char byte;

	assert_int_equal(pipe(ready), 0);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, name);
		if (write(ready[1], "x", 1) == 1)
			pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void test_names(void **state)
{
	pid_t pid = child_of_name("netw\norkd");
	char who[EVIDENCE_WHO_MAX], want[EVIDENCE_WHO_MAX];

	(void)state;
	snprintf(want, sizeof(want), "netw (pid %d)", pid); // one line, whatever it calls itself
	evidence_name((uint32_t)pid, who);
	assert_string_equal(who, want);
	evidence_name((uint32_t)pid | 3u << 22, who); // libnl's way
	assert_string_equal(who, want);
	evidence_name((uint32_t)pid | 1u << 31, who); // the kernel's own choice
	assert_string_equal(who, EVIDENCE_NOBODY);
	evidence_name(0, who);
	assert_string_equal(who, EVIDENCE_NOBODY);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	snprintf(want, sizeof(want), "process %d, gone by now", pid);
	evidence_name((uint32_t)pid, who);
	assert_string_equal(who, want);
}

static void test_each_kind_finds_its_own(void **state)
{
	const struct resource one = vip("10.0.0.100"), other = vip("10.0.0.101");
	const struct resource device = { .kind = RESOURCE_DEVICE, .dev = "brass-ipip" };
	const struct resource nat = { .kind = RESOURCE_ROUTE, .table = 4672, .addr.family = AF_INET };
	const struct resource mirror = { .kind = RESOURCE_MIRROR, .table = 4673, .addr.family = AF_INET6 };
	const struct resource conf = { .kind = RESOURCE_CONF, .dev = "eth0" };
	struct resource from = { .kind = RESOURCE_RULE, .table = 4672 };
	struct evidence e = { .own = (uint32_t)getpid() };
	pid_t pid = child_of_name("networkd");

	(void)state;
	from.addr = one.addr;
	address(&e, RTM_NEWADDR, "10.0.0.100", (uint32_t)pid); // comes: nobody took it away
	link_event(&e, RTM_NEWLINK, IFF_UP, "brass-ipip", (uint32_t)pid);
	address(&e, RTM_DELADDR, "10.0.0.100", (uint32_t)getpid()); // ours
	assert_null(evidence_find(&e, &one));
	assert_null(evidence_find(&e, &device));
	address(&e, RTM_DELADDR, "10.0.0.100", (uint32_t)pid);
	assert_non_null(strstr(evidence_find(&e, &one), "networkd (pid "));
	assert_null(evidence_find(&e, &other));
	assert_null(evidence_find(&e, &from));
	rule(&e, "10.0.0.100", 4673, (uint32_t)pid);
	assert_null(evidence_find(&e, &from));
	rule(&e, "10.0.0.100", 4672, (uint32_t)pid);
	assert_non_null(evidence_find(&e, &from));
	link_event(&e, RTM_NEWLINK, 0, "brass-ipip", 0); // set down
	assert_string_equal(evidence_find(&e, &device), EVIDENCE_NOBODY);
	route(&e, AF_INET, 254, (uint32_t)pid);
	route(&e, AF_INET, 4673, (uint32_t)pid);
	assert_null(evidence_find(&e, &nat));
	assert_null(evidence_find(&e, &mirror));
	route(&e, AF_INET6, 4673, (uint32_t)pid);
	assert_non_null(evidence_find(&e, &mirror));
	assert_null(evidence_find(&e, &conf));
	// told once; the others are kept
	evidence_forget(&e, &one);
	assert_null(evidence_find(&e, &one));
	assert_non_null(evidence_find(&e, &mirror));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void test_bounded_and_the_latest_counts(void **state)
{
	const struct resource one = vip("10.0.0.100"), first = vip("10.1.0.0");
	struct evidence e = { .own = (uint32_t)getpid() };

	(void)state;
	address(&e, RTM_DELADDR, "10.1.0.0", 0);
	address(&e, RTM_DELADDR, "10.0.0.100", 0);
	for (int i = 0; i < EVIDENCE_KEPT - 2; i++)
		route(&e, AF_INET, 77, 4194302);
	route(&e, AF_INET, 77, 0); // the kernel's own: a device took it along
	assert_non_null(evidence_find(&e, &first));
	address(&e, RTM_DELADDR, "10.0.0.100", 4194303); // no such process
	assert_string_equal(evidence_find(&e, &one), "process 4194303, gone by now");
	assert_null(evidence_find(&e, &first));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_each_kind_finds_its_own),
		cmocka_unit_test(test_bounded_and_the_latest_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
