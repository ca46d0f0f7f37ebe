#include "store/seal_key.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "crypto/random.h"

static int fault(const char *path, struct diags *diags, int r, const char *what) {
        (void)diags_add(diags, path, 0, "%s", what);
        return r;
}

static int fault_errno(const char *path, struct diags *diags, const char *what) {
        int error = errno;

        (void)diags_add(diags, path, 0, "cannot %s the sealing key: %s", what, strerror(error));
        return error == ENOSPC || error == EDQUOT ? -ENOSPC : error == EACCES || error == EPERM ? -EACCES : -EIO;
}

/*
 * A key that others can read seals nothing. The group may only when it is root's in root's file: so looks the mode of a
 * systemd credential, where an access control list lets the service in.
 */
static bool is_private(const struct stat *st) {
        bool group_is_root = st->st_uid == 0 && st->st_gid == 0;

        return (st->st_mode & (S_IRWXO | S_IWGRP | S_IXGRP)) == 0 && ((st->st_mode & S_IRGRP) == 0 || group_is_root);
}

static int check_file(const char *path, int fd, struct diags *diags) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return fault_errno(path, diags, "examine");
        if (!S_ISREG(st.st_mode))
                return fault(path, diags, -EINVAL, "the sealing key must be a regular file");
        if (st.st_uid != geteuid() && st.st_uid != 0)
                return fault(path, diags, -EACCES, "the sealing key belongs to another user: chown it to the user that "
                             "runs the server");
        if (!is_private(&st))
                return fault(path, diags, -EACCES, "the sealing key is open to other users: chmod 0600 it; if somebody "
                             "may have read it, what it seals is known to them: replace the credentials and keys");
        if (st.st_size != SEAL_KEY_SIZE) {
                (void)diags_add(diags, path, 0, "the sealing key must be exactly %d bytes, this file has %lld: it is "
                                "no text, do not edit it; restore it from the backup",
                                SEAL_KEY_SIZE, (long long)st.st_size);
                return -EINVAL;
        }
        return 0;
}

/* All size bytes, or false with errno. */
static bool read_all(int fd, uint8_t *data, size_t size) {
        while (size > 0) {
                ssize_t n = read(fd, data, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n == 0)
                        errno = EIO; /* it became shorter under our hands */
                if (n <= 0)
                        return false;
                data += n;
                size -= (size_t)n;
        }
        return true;
}

static bool write_all(int fd, const uint8_t *data, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, data, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return false;
                data += n;
                size -= (size_t)n;
        }
        return true;
}

int seal_key_load(const char *path, struct secret *ret, struct diags *diags) {
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        _cleanup_(secret_done) struct secret key = {};
        int r;

        if (fd < 0 && errno == ENOENT)
                return fault(path, diags, -ENOENT, "there is no sealing key: run 'acectl init', or restore it from the "
                             "backup when there is a database already");
        if (fd < 0)
                return fault_errno(path, diags, "open");
        if ((r = check_file(path, fd, diags)) != 0)
                return r;
        if (!read_all(fd, key.data, SEAL_KEY_SIZE))
                return fault_errno(path, diags, "read");

        key.size = SEAL_KEY_SIZE;
        secret_move(ret, &key);
        return 0;
}

/* A new file is on disk when its directory is, too. */
static bool sync_directory(const char *path) {
        _cleanup_(freep) char *copy = strdup(path);
        _cleanup_(closep) int fd = -1;

        if (!copy)
                return false;
        fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd >= 0 && fsync(fd) == 0;
}

int seal_key_create(const char *path, struct diags *diags) {
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        _cleanup_(secret_done) struct secret key = { .size = SEAL_KEY_SIZE };
        int r = 0;

        if (fd < 0 && errno == EEXIST)
                return fault(path, diags, -EEXIST, "there is a sealing key already; it was left alone, because what is "
                             "sealed under it can be read with nothing else");
        if (fd < 0)
                return fault_errno(path, diags, "create");

        if (random_bytes(key.data, key.size) != 0)
                r = fault(path, diags, -EIO, "no randomness on this machine: no sealing key was made");
        else if (!write_all(fd, key.data, key.size) || fchmod(fd, 0600) < 0 || fsync(fd) < 0 || !sync_directory(path))
                r = fault_errno(path, diags, "write");
        if (r != 0)
                (void)unlink(path);
        return r;
}
