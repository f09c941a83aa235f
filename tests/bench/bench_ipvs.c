// SPDX-License-Identifier: Apache-2.0
// Preloaded: stands in for a kernel that has no IPVS, so that programs which insist on it can be measured at what has
// nothing to do with it, on this machine's own kernel. There is a family "IPVS" in generic netlink; every change
// succeeds and is forgotten, every dump is empty. Nothing else of the programs is touched.
#include <dlfcn.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/ip_vs.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define FAMILY 0x3f0 // the kernel counts up from 16
#define FDS 1024
#define QUEUE_MAX (1u << 20)

static struct queue {
	char *bytes; // messages that wait to be received
	size_t len, done;
} queues[FDS];

static struct nlmsghdr *append(
	struct queue *queue, const struct nlmsghdr *to, uint16_t type, const void *data, size_t len)
{
	const size_t space = NLMSG_SPACE(len);

	if (!queue->bytes && !(queue->bytes = malloc(QUEUE_MAX)))
		abort();
	if (queue->len + space > QUEUE_MAX)
		abort(); // more than was ever sent at once
	struct nlmsghdr *hdr = (struct nlmsghdr *)(void *)(queue->bytes + queue->len);
	memset(hdr, 0, space);
	*hdr = (struct nlmsghdr) { .nlmsg_len = (uint32_t)NLMSG_LENGTH(len),
		.nlmsg_type = type,
		.nlmsg_seq = to->nlmsg_seq,
		.nlmsg_pid = to->nlmsg_pid };
	memcpy(NLMSG_DATA(hdr), data, len);
	queue->len += space;
	return hdr;
}

static size_t attr(char *at, uint16_t type, const void *data, size_t len)
{
	const struct nlattr head = { .nla_len = (uint16_t)(sizeof(head) + len), .nla_type = type };

	memcpy(at, &head, sizeof(head));
	memcpy(at + sizeof(head), data, len);
	return (sizeof(head) + len + NLA_ALIGNTO - 1) / NLA_ALIGNTO * NLA_ALIGNTO;
}

static void answer(struct queue *queue, const struct nlmsghdr *request)
{
	const struct genlmsghdr *command = NLMSG_DATA(request);
	char data[256] = { 0 };
	size_t len = GENL_HDRLEN;
	const int none = 0;

	if ((request->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP) {
		append(queue, request, NLMSG_DONE, &none, sizeof(none))->nlmsg_flags = NLM_F_MULTI;
		return;
	}
	memcpy(data, &(struct genlmsghdr) { .cmd = command->cmd, .version = 1 }, GENL_HDRLEN);
	if (request->nlmsg_type == GENL_ID_CTRL) {
		memcpy(data, &(struct genlmsghdr) { .cmd = CTRL_CMD_NEWFAMILY, .version = 2 }, GENL_HDRLEN);
		len += attr(data + len, CTRL_ATTR_FAMILY_NAME, IPVS_GENL_NAME, sizeof(IPVS_GENL_NAME));
		len += attr(data + len, CTRL_ATTR_FAMILY_ID, &(uint16_t) { FAMILY }, 2);
		len += attr(data + len, CTRL_ATTR_VERSION, &(uint32_t) { 1 }, 4);
		len += attr(data + len, CTRL_ATTR_HDRSIZE, &(uint32_t) { 0 }, 4);
		len += attr(data + len, CTRL_ATTR_MAXATTR, &(uint32_t) { IPVS_CMD_ATTR_MAX }, 4);
	} else if (command->cmd == IPVS_CMD_GET_INFO) {
		len += attr(data + len, IPVS_INFO_ATTR_VERSION, &(uint32_t) { 0x10201 }, 4);
		len += attr(data + len, IPVS_INFO_ATTR_CONN_TAB_SIZE, &(uint32_t) { 4096 }, 4);
	} else if (command->cmd == IPVS_CMD_GET_CONFIG) {
		len += attr(data + len, IPVS_CMD_ATTR_TIMEOUT_TCP, &(uint32_t) { 900 }, 4);
		len += attr(data + len, IPVS_CMD_ATTR_TIMEOUT_TCP_FIN, &(uint32_t) { 120 }, 4);
		len += attr(data + len, IPVS_CMD_ATTR_TIMEOUT_UDP, &(uint32_t) { 300 }, 4);
	}
	if (len > GENL_HDRLEN)
		append(queue, request, request->nlmsg_type, data, len);
	if (request->nlmsg_flags & NLM_F_ACK) {
		struct nlmsgerr ok = { .error = 0, .msg = *request };

		append(queue, request, NLMSG_ERROR, &ok, sizeof(ok));
	}
}

static bool is_ours(const struct nlmsghdr *hdr, size_t len)
{
	if (len < NLMSG_LENGTH(GENL_HDRLEN) || hdr->nlmsg_len < NLMSG_LENGTH(GENL_HDRLEN) || hdr->nlmsg_len > len)
		return false;
	return hdr->nlmsg_type == FAMILY ||
		(hdr->nlmsg_type == GENL_ID_CTRL &&
			memmem(hdr, hdr->nlmsg_len, IPVS_GENL_NAME, sizeof(IPVS_GENL_NAME)));
}

// Whether the buffer was for IPVS: then it is answered.
static bool take(int fd, const void *data, size_t len)
{
	const struct nlmsghdr *hdr = data;

	if (fd < 0 || fd >= FDS || !is_ours(hdr, len))
		return false;
	for (size_t left = len; left >= sizeof(*hdr) && hdr->nlmsg_len <= left;) {
		const size_t step = NLMSG_ALIGN(hdr->nlmsg_len);

		answer(&queues[fd], hdr);
		left -= step < left ? step : left;
		hdr = (const struct nlmsghdr *)(const void *)((const char *)hdr + step);
	}
	return true;
}

// What waits, one message at a time. -1: nothing does.
static ssize_t give(int fd, void *data, size_t room, int flags)
{
	struct queue *queue = fd >= 0 && fd < FDS ? &queues[fd] : NULL;

	if (!queue || queue->done == queue->len)
		return -1;
	const struct nlmsghdr *hdr = (const struct nlmsghdr *)(const void *)(queue->bytes + queue->done);
	const size_t len = hdr->nlmsg_len;
	memcpy(data, hdr, len < room ? len : room);
	if (!(flags & MSG_PEEK))
		queue->done += NLMSG_ALIGN(len);
	if (queue->done == queue->len)
		queue->done = queue->len = 0;
	return (ssize_t)(len < room || flags & MSG_TRUNC ? len : room);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *to, socklen_t to_len)
{
	static __typeof__(&sendto) next;

	if (to && to->sa_family == AF_NETLINK && take(fd, data, len))
		return (ssize_t)len;
	next = next ? next : NEXT(sendto);
	return next(fd, data, len, flags, to, to_len);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	static __typeof__(&sendmsg) next;
	const struct sockaddr *to = msg->msg_name;

	if (to && to->sa_family == AF_NETLINK && msg->msg_iovlen == 1 &&
		take(fd, msg->msg_iov->iov_base, msg->msg_iov->iov_len))
		return (ssize_t)msg->msg_iov->iov_len;
	next = next ? next : NEXT(sendmsg);
	return next(fd, msg, flags);
}

ssize_t recv(int fd, void *data, size_t room, int flags)
{
	static __typeof__(&recv) next;
	const ssize_t n = give(fd, data, room, flags);

	next = next ? next : NEXT(recv);
	return n >= 0 ? n : next(fd, data, room, flags);
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	static __typeof__(&recvmsg) next;
	const ssize_t n = give(fd, msg->msg_iov->iov_base, msg->msg_iov->iov_len, flags);

	next = next ? next : NEXT(recvmsg);
	if (n < 0)
		return next(fd, msg, flags);
	if (msg->msg_name && msg->msg_namelen >= sizeof(struct sockaddr_nl)) {
		memcpy(msg->msg_name, &(struct sockaddr_nl) { .nl_family = AF_NETLINK }, sizeof(struct sockaddr_nl));
		msg->msg_namelen = sizeof(struct sockaddr_nl);
	}
	msg->msg_controllen = 0;
	msg->msg_flags = (size_t)n > msg->msg_iov->iov_len ? MSG_TRUNC : 0;
	return n;
}
