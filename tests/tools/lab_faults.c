// SPDX-License-Identifier: Apache-2.0
// Preloaded into a director, makes its talk with IPVS go wrong, and its disk slow, as a test orders. The test writes
// its orders into a file that both map (BRASS_FAULTS names it; struct control below, 32-bit numbers of the host's
// order).
//
// refuse: a NEW, SET or DEL of a batch becomes a command that does not exist, so the kernel itself refuses exactly that
// message (-EOPNOTSUPP) and carries out the others. lose: the kernel has done what it was asked and its answers are
// gone: recv(2) says ENOBUFS, as after an overrun; the answers before the lost one may come late. interrupt: EINTR
// before anything was done. Each happens with a probability (of a thousand), or once, at the n-th occasion from now.
// sync_ms: what is written takes that long to be on the disk.
//
// Only sockets over which IPVS messages were sent are touched. shared/netsock.c sends with sendto(2) and reads with
// recv(2); sendmsg(2) and recvmsg(2) are what libnl would use.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/ip_vs.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_SIZE (64u << 10)
#define FDS 1024
#define NO_COMMAND 0xfe
#define ATTR_LEN sizeof(struct nlattr)

// tests/chaos/faults.py writes it.
struct control {
	// orders
	uint32_t refuse_per_mille, lose_per_mille, interrupt_per_mille;
	uint32_t refuse_in, lose_in, interrupt_in; // 1: the next one; 0: none; counted down here
	uint32_t seed;                             // 0 is none; changes as numbers are drawn
	uint32_t sync_ms;
	// what happened
	uint32_t changes, refused, lost, interrupted;
};

static struct control *control; // NULL: no faults
static uint16_t family;         // of IPVS; 0: not asked yet
static enum { OTHER, IPVS, IPVS_DUMP } sockets[FDS];

static ssize_t (*real_sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
static ssize_t (*real_recv)(int, void *, size_t, int);
static ssize_t (*real_sendmsg)(int, const struct msghdr *, int);
static ssize_t (*real_recvmsg)(int, struct msghdr *, int);
static int (*real_fsync)(int), (*real_fdatasync)(int);

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("BRASS_FAULTS");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

	real_sendto = (__typeof__(real_sendto))dlsym(RTLD_NEXT, "sendto");
	real_recv = (__typeof__(real_recv))dlsym(RTLD_NEXT, "recv");
	real_sendmsg = (__typeof__(real_sendmsg))dlsym(RTLD_NEXT, "sendmsg");
	real_recvmsg = (__typeof__(real_recvmsg))dlsym(RTLD_NEXT, "recvmsg");
	real_fsync = (__typeof__(real_fsync))dlsym(RTLD_NEXT, "fsync");
	real_fdatasync = (__typeof__(real_fdatasync))dlsym(RTLD_NEXT, "fdatasync");
	if (fd < 0)
		return;
	void *map = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		control = map;
}

// --- when ---

static uint32_t draw(void)
{
	uint32_t x = control->seed ? control->seed : 1; // xorshift32

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	control->seed = x;
	return x;
}

static bool due(uint32_t per_mille, uint32_t *countdown, uint32_t *happened)
{
	bool now = *countdown && --*countdown == 0;

	if (!now && per_mille)
		now = draw() % 1000 < per_mille;
	*happened += now;
	return now;
}

// --- the family's number: asked over a socket of our own ---

static uint16_t find_family(const char *buffer, size_t len)
{
	const struct nlmsghdr *hdr = (const void *)buffer;
	size_t at = NLMSG_LENGTH(GENL_HDRLEN);

	if (len < at || hdr->nlmsg_type != GENL_ID_CTRL)
		return 0;
	while (at + ATTR_LEN <= len) {
		const struct nlattr *attr = (const void *)(buffer + at);

		if (attr->nla_type == CTRL_ATTR_FAMILY_ID)
			return *(const uint16_t *)(const void *)(buffer + at + ATTR_LEN);
		if (attr->nla_len < ATTR_LEN)
			break;
		at += (attr->nla_len + 3u) & ~3u;
	}
	return 0;
}

static void ask_family(void)
{
	static char buffer[8192];
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct {
		struct nlmsghdr hdr;
		struct genlmsghdr genl;
		struct nlattr attr;
		char name[sizeof(IPVS_GENL_NAME)];
	} ask = {
		.hdr = { .nlmsg_len = sizeof(ask), .nlmsg_type = GENL_ID_CTRL, .nlmsg_flags = NLM_F_REQUEST },
		.genl = { .cmd = CTRL_CMD_GETFAMILY, .version = 1 },
		.attr = { .nla_len = ATTR_LEN + sizeof(ask.name), .nla_type = CTRL_ATTR_FAMILY_NAME },
		.name = IPVS_GENL_NAME,
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);

	if (fd < 0)
		return;
	if (real_sendto(fd, &ask, sizeof(ask), 0, (const struct sockaddr *)&kernel, sizeof(kernel)) > 0) {
		ssize_t n = real_recv(fd, buffer, sizeof(buffer), 0);

		if (n > 0)
			family = find_family(buffer, (size_t)n);
	}
	close(fd);
}

// --- sending ---

static bool is_change(uint8_t command)
{
	switch (command) {
	case IPVS_CMD_NEW_SERVICE:
	case IPVS_CMD_SET_SERVICE:
	case IPVS_CMD_DEL_SERVICE:
	case IPVS_CMD_NEW_DEST:
	case IPVS_CMD_SET_DEST:
	case IPVS_CMD_DEL_DEST:
		return true;
	default:
		return false;
	}
}

// Notes what kind of socket it is. Returns a copy of the batch with the faults in it, or data itself.
static const void *prepare(int fd, const void *data, size_t len)
{
	static char copy[BUFFER_SIZE];
	bool changed = false;

	if (!family)
		ask_family();
	if (!family || len > sizeof(copy) || fd < 0 || fd >= FDS)
		return data;
	memcpy(copy, data, len);
	for (size_t at = 0; at + NLMSG_LENGTH(GENL_HDRLEN) <= len;) {
		struct nlmsghdr *hdr = (void *)(copy + at);
		struct genlmsghdr *genl = NLMSG_DATA(hdr);

		if (hdr->nlmsg_len < NLMSG_LENGTH(GENL_HDRLEN))
			break;
		at += NLMSG_ALIGN(hdr->nlmsg_len);
		if (hdr->nlmsg_type != family)
			continue;
		sockets[fd] = hdr->nlmsg_flags & NLM_F_DUMP ? IPVS_DUMP : IPVS;
		if (!is_change(genl->cmd))
			continue;
		control->changes++;
		if (due(control->refuse_per_mille, &control->refuse_in, &control->refused)) {
			genl->cmd = NO_COMMAND;
			changed = true;
		}
	}
	return changed ? copy : data;
}

static bool interrupted(int fd)
{
	if (fd < 0 || fd >= FDS || sockets[fd] == OTHER ||
		!due(control->interrupt_per_mille, &control->interrupt_in, &control->interrupted))
		return false;
	errno = EINTR;
	return true;
}

static bool is_netlink(int fd, const struct sockaddr *to, socklen_t len)
{
	struct sockaddr_storage own;
	socklen_t own_len = sizeof(own);

	if (to && len >= sizeof(to->sa_family))
		return to->sa_family == AF_NETLINK;
	return getsockname(fd, (struct sockaddr *)&own, &own_len) == 0 && own.ss_family == AF_NETLINK;
}

ssize_t sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *to, socklen_t to_len)
{
	if (control && to && is_netlink(fd, to, to_len)) {
		if (interrupted(fd))
			return -1;
		data = prepare(fd, data, len);
	}
	return real_sendto(fd, data, len, flags, to, to_len);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct msghdr changed = *msg;
	struct iovec iov;

	if (control && msg->msg_iovlen == 1 && is_netlink(fd, msg->msg_name, msg->msg_namelen)) {
		if (interrupted(fd))
			return -1;
		iov = msg->msg_iov[0];
		iov.iov_base = (void *)(uintptr_t)prepare(fd, iov.iov_base, iov.iov_len);
		changed.msg_iov = &iov;
	}
	return real_sendmsg(fd, &changed, flags);
}

// --- receiving ---

// Answers are queued before sendto(2) returns, so that what is there is all there is.
static bool lost(int fd)
{
	static char dropped[BUFFER_SIZE];

	if (fd < 0 || fd >= FDS || sockets[fd] == OTHER ||
		!due(control->lose_per_mille, &control->lose_in, &control->lost))
		return false;
	// an overrun leaves what came before it in the queue; of a dump nothing may be left, or the next one is EBUSY
	if (sockets[fd] == IPVS_DUMP || draw() % 2)
		while (real_recv(fd, dropped, sizeof(dropped), MSG_DONTWAIT) >= 0)
			;
	errno = ENOBUFS;
	return true;
}

ssize_t recv(int fd, void *buffer, size_t len, int flags)
{
	if (control && (interrupted(fd) || lost(fd)))
		return -1;
	return real_recv(fd, buffer, len, flags);
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	if (control && (interrupted(fd) || lost(fd)))
		return -1;
	return real_recvmsg(fd, msg, flags);
}

// What recv(2) becomes with _FORTIFY_SOURCE when the compiler knows the buffer's size.
ssize_t __recv_chk(int fd, void *buffer, size_t len, size_t room, int flags);
ssize_t __recv_chk(int fd, void *buffer, size_t len, size_t room, int flags)
{
	if (len > room)
		abort();
	return recv(fd, buffer, len, flags);
}

// --- the disk ---

static void wait_for_disk(void)
{
	if (control && control->sync_ms)
		usleep(control->sync_ms * 1000);
}

int fsync(int fd)
{
	wait_for_disk();
	return real_fsync(fd);
}

int fdatasync(int fd)
{
	wait_for_disk();
	return real_fdatasync(fd);
}
