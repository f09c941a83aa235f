// SPDX-License-Identifier: Apache-2.0
#include "shared/check.h"

#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct check_type *const types[] = {
	[CHECK_TCP] = &check_tcp,
	[CHECK_HTTP] = &check_http,
	[CHECK_HTTPS] = &check_http,
	[CHECK_UDP] = &check_udp,
	[CHECK_DNS] = &check_dns,
	[CHECK_GRPC] = &check_grpc,
	[CHECK_EXEC] = &check_exec,
	[CHECK_AGENT] = &check_agent,
	[CHECK_ALL] = &check_group,
	[CHECK_ANY] = &check_group,
};

const char *check_target_format(const struct check_target *target, char buf[CHECK_TARGET_MAX])
{
	char real[INET_ENDPOINT_MAX], vip[INET_ADDR_MAX];

	if (!inet_addr_is_set(&target->real.addr))
		return inet_endpoint_format(&target->to, buf);
	snprintf(buf, CHECK_TARGET_MAX, "%s via VIP %s", inet_endpoint_format(&target->real, real),
		inet_addr_format(&target->to.addr, vip));
	return buf;
}

const struct inet_endpoint *check_target_real(const struct check_target *target)
{
	return inet_addr_is_set(&target->real.addr) ? &target->real : &target->to;
}

struct sockpath check_path(const struct check_target *target)
{
	// TCP's own options are part of the segment (net/ipv4/tcp_output.c, tcp_sync_mss)
	const uint32_t headers = target->to.addr.family == AF_INET6 ? 40 + 20 : 20 + 20, largest = 32767;
	struct sockpath path = target->path;

	if (target->full_size > headers + 88)
		path.segment = target->full_size - headers < largest ? target->full_size - headers : largest;
	return path;
}

int check_start(const struct check_env *env, const struct check_spec *spec, const struct check_target *given,
	check_done_fn done, void *ctx, struct check **ret)
{
	struct check_target target = *given;
	struct check *check = NULL;

	if (spec->kind == CHECK_NONE)
		return -EINVAL;
	if (spec->args.port)
		target.to.port = target.real.port = (uint16_t)spec->args.port;
	int rc = types[spec->kind]->start(env, spec, &target, &check);
	if (rc)
		return rc;
	if (!check->type) // plain HTTP is check_tcp's
		check->type = types[spec->kind];
	check->done = done;
	check->ctx = ctx;
	*ret = check;
	return 0;
}

void check_cancel(struct check *check)
{
	if (check)
		check->type->cancel(check);
}

enum check_outcome check_outcome_of(int error)
{
	switch (error) {
	case 0:
		return CHECK_PASS;
	case -ECONNREFUSED:
	case -ECONNRESET:
		return CHECK_REFUSED;
	case -ETIMEDOUT:
		return CHECK_TIMEOUT;
	case -EHOSTUNREACH:
	case -ENETUNREACH:
	case -EHOSTDOWN:
	// of ICMP messages
	case -ENONET:
	case -ENOPROTOOPT:
	case -EACCES:
		return CHECK_UNREACHABLE;
	case -EPROTO: // of libcurl, see http_client.h
	case -EKEYREJECTED:
		return CHECK_WRONG;
	default:
		return CHECK_BROKEN;
	}
}

enum check_outcome check_outcome_of_start(int kind, int error)
{
	// a program that may not be run is no network that says no
	return kind == CHECK_EXEC ? CHECK_BROKEN : check_outcome_of(error);
}

void check_explain(int fd, enum check_outcome *outcome, const char **why)
{
	static const struct {
		enum check_outcome outcome;
		const char *why;
	} icmp[] = {
		[SOCKPATH_ICMP_PORT] = { CHECK_NO_PORT, "rejected (ICMP port unreachable)" },
		[SOCKPATH_ICMP_PROTOCOL] = { CHECK_NO_PROTOCOL, "rejected (ICMP protocol unreachable)" },
		[SOCKPATH_ICMP_PROHIBITED] = { CHECK_PROHIBITED, "rejected (ICMP: prohibited by a filter)" },
	};
	const enum sockpath_icmp said = sockpath_icmp(fd);

	if (said == SOCKPATH_ICMP_NONE || said == SOCKPATH_ICMP_OTHER)
		return;
	*outcome = icmp[said].outcome;
	*why = icmp[said].why;
}

const char *check_outcome_name(enum check_outcome outcome)
{
	static const char *const names[] = {
		[CHECK_PASS] = "answers",
		[CHECK_REFUSED] = "refused",
		[CHECK_TIMEOUT] = "no answer",
		[CHECK_UNREACHABLE] = "unreachable",
		[CHECK_NO_PORT] = "ICMP port unreachable",
		[CHECK_NO_PROTOCOL] = "ICMP protocol unreachable",
		[CHECK_PROHIBITED] = "ICMP prohibited",
		[CHECK_WRONG] = "wrong answer",
		[CHECK_BROKEN] = "cannot be checked",
	};

	return names[outcome];
}
