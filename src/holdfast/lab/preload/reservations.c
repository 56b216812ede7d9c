// Makes qemu-storage-daemon a host bus adapter: persistent reservations over the iSCSI session that its disk uses.
//
// A registration belongs to one session (I_T nexus), so whoever registers must do it over the session of the guest's
// writes. This library is preloaded; it keeps the session that QEMU's iSCSI driver logs in, and serves QEMU's protocol
// for persistent reservation helpers on the unix socket named by HOLDFAST_ADAPTER_SOCKET. It says by the highest bit of
// its greeting that it also carries INQUIRY, READ CAPACITY (16) and TEST UNIT READY, READ (16) and WRITE (16) of some
// blocks of 512 bytes, as the lab's target has them, and a LOGICAL UNIT RESET, which is asked for by a command of 0xff:
// what a disk is, that it drops what an expelled node had sent, and who stamps it, is to be known over the same session.
// Source: src/holdfast/storage/reservation_helper.py.
//
// Rules of the file:
// - It never registers by itself: neither at login nor when libiscsi has logged in anew.
// - A command goes out at most once. libiscsi repeats what was under way when it logs in anew; a REGISTER repeated long
//   after its sender gave up would let a fenced node write again, so such a repetition is refused here.
// - All of it runs in QEMU's main loop, which is GLib's default one; so there are no threads and no locks.
//
// Source: QEMU docs/interop/pr-helper.rst; SPC-4 6.15, 6.16 (commands), 4.5.3 (fixed format sense data).

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

// Of GLib, whose headers would be one more package for two declarations. Source: glib-unix.h, GIOCondition.
unsigned g_unix_fd_add(int fd, int condition, int (*call)(int fd, int condition, void *data), void *data);
enum { READABLE = 1 | 8 | 16, KEEP = 1, REMOVE = 0 };

enum { GREETING = 4, CDB = 16, SENSE = 96, MAX_DATA = 8192, BLOCK = 512 };
enum { TEST_UNIT_READY = 0x00, INQUIRY = 0x12, RESERVE_IN = 0x5e, RESERVE_OUT = 0x5f, SERVICE_IN = 0x9e, RESET = 0xff };
enum { READ_BLOCKS = 0x88, WRITE_BLOCKS = 0x8a };
enum { READ_CAPACITY = 0x10, RESET_DONE = 0 };
static const uint32_t CARRIES_MORE = 0x80000000;
enum { NOT_READY = 0x02, ILLEGAL_REQUEST = 0x05, ABORTED_COMMAND = 0x0b };
enum { NO_SESSION = 0x0400, SESSION_LOST = 0x0800, INVALID_FIELD = 0x2400 };

struct asker {
  int fd;
  int greeted, busy, gone;
  size_t have;
  unsigned char in[CDB + MAX_DATA];
};

static struct iscsi_context *session;
static int session_lun;
static int (*send_command)(struct iscsi_context *, int, struct scsi_task *, iscsi_command_cb, struct iscsi_data *, void *);

// Whether the other side has ended the session's connection, and libiscsi has not begun with a new one.
static int is_over(struct iscsi_context *context) {
  struct pollfd connection = {.fd = iscsi_get_fd(context), .events = POLLRDHUP};
  return context == session && iscsi_is_logged_in(context) && poll(&connection, 1, 0) == 1;
}

static void release(struct asker *asker) {
  close(asker->fd);
  free(asker);
}

static void answer(struct asker *asker, uint32_t status, const unsigned char *data, uint32_t size, int key, int code) {
  unsigned char out[8 + SENSE + MAX_DATA] = {0};
  uint32_t head[2] = {htonl(status), htonl(size)};
  memcpy(out, head, sizeof head);
  if (status == SCSI_STATUS_CHECK_CONDITION) {
    unsigned char fixed[18] = {[0] = 0x70, [2] = key, [7] = 10, [12] = code >> 8, [13] = code & 0xff};
    memcpy(out + 8, fixed, sizeof fixed);
  }
  if (size) memcpy(out + 8 + SENSE, data, size);
  send(asker->fd, out, 8 + SENSE + size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void done(struct iscsi_context *unused, int status, void *result, void *data) {
  struct asker *asker = data;
  struct scsi_task *task = result;
  (void)unused;
  asker->busy = 0;
  asker->have = 0;
  if (asker->gone) {
    release(asker);
  } else if (status == SCSI_STATUS_GOOD) {
    uint32_t size = task->xfer_dir == SCSI_XFER_READ && task->datain.size > 0 ? task->datain.size : 0;
    answer(asker, status, task->datain.data, size > MAX_DATA ? MAX_DATA : size, 0, 0);
  } else if (status == SCSI_STATUS_CHECK_CONDITION) {
    answer(asker, status, NULL, 0, task->sense.key, task->sense.ascq);
  } else if (status > 0 && status < 0x100) {
    answer(asker, status, NULL, 0, 0, 0);
  } else {
    answer(asker, SCSI_STATUS_CHECK_CONDITION, NULL, 0, ABORTED_COMMAND, SESSION_LOST);  // it may have been carried out
  }
  if (task) scsi_free_scsi_task(task);
}

// Bytes of the blocks that a command reads or writes; one too many for a number that is not carried. Source: SBC-3 5.16.
static uint32_t blocks_length(const unsigned char *cdb) {
  uint32_t blocks = (uint32_t)cdb[10] << 24 | cdb[11] << 16 | cdb[12] << 8 | cdb[13];
  return blocks > MAX_DATA / BLOCK ? MAX_DATA + 1 : blocks * BLOCK;
}

// Length of what follows a command: a parameter list, or blocks. Source: SPC-4 6.16.1, bytes 5 to 8.
static uint32_t list_length(const unsigned char *cdb) {
  if (cdb[0] == WRITE_BLOCKS) return blocks_length(cdb);
  return cdb[0] != RESERVE_OUT ? 0 : (uint32_t)cdb[5] << 24 | cdb[6] << 16 | cdb[7] << 8 | cdb[8];
}

// How much a command lets come back; -1 for one that is not carried. Source: SPC-4 6.6, 6.15, 6.47; SBC-3 5.16.
static int64_t answer_length(const unsigned char *cdb) {
  switch (cdb[0]) {
    case TEST_UNIT_READY: case RESERVE_OUT: case WRITE_BLOCKS: return 0;
    case READ_BLOCKS: return blocks_length(cdb);
    case INQUIRY: return cdb[3] << 8 | cdb[4];
    case RESERVE_IN: return cdb[7] << 8 | cdb[8];
    case SERVICE_IN: return cdb[1] == READ_CAPACITY ? (int64_t)cdb[10] << 24 | cdb[11] << 16 | cdb[12] << 8 | cdb[13] : -1;
    default: return -1;
  }
}

static void reset_done(struct iscsi_context *unused, int status, void *result, void *data) {
  struct asker *asker = data;
  (void)unused;
  asker->busy = 0;
  asker->have = 0;
  if (asker->gone) {
    release(asker);
  } else if (status != SCSI_STATUS_GOOD || !result) {
    answer(asker, SCSI_STATUS_CHECK_CONDITION, NULL, 0, ABORTED_COMMAND, SESSION_LOST);
  } else if (*(uint32_t *)result != RESET_DONE) {
    answer(asker, SCSI_STATUS_CHECK_CONDITION, NULL, 0, ILLEGAL_REQUEST, INVALID_FIELD);
  } else {
    answer(asker, SCSI_STATUS_GOOD, NULL, 0, 0, 0);
  }
}

static void reset_unit(struct asker *asker) {
  asker->busy = 1;
  if (iscsi_is_logged_in(session) && !is_over(session) &&
      iscsi_task_mgmt_async(session, session_lun, ISCSI_TM_LUN_RESET, 0xffffffff, 0, reset_done, asker) == 0) {
    iscsi_service(session, POLLOUT);
    return;
  }
  asker->busy = 0;
  asker->have = 0;
  answer(asker, SCSI_STATUS_CHECK_CONDITION, NULL, 0, NOT_READY, NO_SESSION);
}

static void carry_out(struct asker *asker) {
  unsigned char *cdb = asker->in;
  uint32_t sends = list_length(cdb);
  int64_t receives = answer_length(cdb);
  int is_out = cdb[0] == RESERVE_OUT || cdb[0] == WRITE_BLOCKS;
  if (receives < 0 || receives > MAX_DATA) {
    asker->have = 0;
    answer(asker, SCSI_STATUS_CHECK_CONDITION, NULL, 0, ILLEGAL_REQUEST, INVALID_FIELD);
    return;
  }
  struct iscsi_data list = {.size = sends, .data = asker->in + CDB};
  struct scsi_task *task =
      scsi_create_task(CDB, cdb, is_out ? SCSI_XFER_WRITE : receives ? SCSI_XFER_READ : SCSI_XFER_NONE,
                       is_out ? sends : receives);
  asker->busy = 1;
  if (!iscsi_is_logged_in(session) || is_over(session) ||
      send_command(session, session_lun, task, done, is_out ? &list : NULL, asker) != 0) {
    asker->busy = 0;
    asker->have = 0;
    scsi_free_scsi_task(task);
    answer(asker, SCSI_STATUS_CHECK_CONDITION, NULL, 0, NOT_READY, NO_SESSION);
    return;
  }
  iscsi_service(session, POLLOUT);  // QEMU looks for something to send only after its own commands and every 250 ms
}

static int hear(int fd, int condition, void *data) {
  struct asker *asker = data;
  size_t wanted = !asker->greeted ? GREETING : asker->have < CDB ? CDB : CDB + list_length(asker->in);
  ssize_t count = asker->busy ? 0 : recv(fd, asker->in + asker->have, wanted - asker->have, MSG_DONTWAIT);
  (void)condition;
  if (count > 0) asker->have += count;
  int is_command = asker->greeted && asker->have >= CDB;
  if (count <= 0 || (is_command && list_length(asker->in) > MAX_DATA)) {
    asker->gone = 1;  // it left, or broke the protocol by speaking before it was answered, or by a list that is too long
    if (!asker->busy) release(asker);
    return REMOVE;
  }
  if (!asker->greeted && asker->have == GREETING) {
    asker->greeted = 1;
    asker->have = 0;
  } else if (is_command && asker->have == CDB + list_length(asker->in)) {
    if (asker->in[0] == RESET) reset_unit(asker);
    else carry_out(asker);
  }
  return KEEP;
}

static int welcome(int listener, int condition, void *data) {
  int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  (void)condition, (void)data;
  if (fd < 0) return KEEP;
  struct asker *asker = calloc(1, sizeof *asker);
  asker->fd = fd;
  uint32_t features = htonl(CARRIES_MORE);
  send(fd, &features, sizeof features, MSG_NOSIGNAL | MSG_DONTWAIT);
  g_unix_fd_add(fd, READABLE, hear, asker);
  return KEEP;
}

static int serve(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  unlink(path);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 16) != 0) return -1;
  g_unix_fd_add(listener, READABLE, welcome, NULL);
  return 0;
}

// QEMU's iSCSI driver logs in with this, once.
int iscsi_full_connect_sync(struct iscsi_context *context, const char *portal, int lun) {
  int (*connect_real)(struct iscsi_context *, const char *, int) = dlsym(RTLD_NEXT, __func__);
  iscsi_set_tcp_syncnt(context, 1);  // of a cut network's return it shall learn by trying often, not by waiting long
  int result = connect_real(context, portal, lun);
  const char *path = getenv("HOLDFAST_ADAPTER_SOCKET");
  if (result != 0 || session || !path) return result;
  session = context;
  session_lun = lun;
  return serve(path);
}

// libiscsi waits up to three seconds before it logs in anew, and until then the end of the old connection keeps waking
// QEMU, which would burn a core. So QEMU is told to wait for nothing then; it looks every 250 ms in any case.
int iscsi_which_events(struct iscsi_context *context) {
  static int (*which_real)(struct iscsi_context *);
  if (!which_real) which_real = dlsym(RTLD_NEXT, __func__);
  return is_over(context) ? 0 : which_real(context);
}

int iscsi_service(struct iscsi_context *context, int events) {
  static int (*service_real)(struct iscsi_context *, int);
  if (!service_real) service_real = dlsym(RTLD_NEXT, __func__);
  return service_real(context, is_over(context) ? events | POLLIN : events);
}

// QEMU and libiscsi send with this; libiscsi also repeats with it, on a new session, what was under way on the old one.
int iscsi_scsi_command_async(struct iscsi_context *context, int lun, struct scsi_task *task, iscsi_command_cb call,
                             struct iscsi_data *data, void *own) {
  if (!send_command) send_command = dlsym(RTLD_NEXT, __func__);
  if (call != done) return send_command(context, lun, task, call, data, own);
  done(context, SCSI_STATUS_CANCELLED, task, own);
  return 0;
}
