#include "vfs_shim.h"

#include <assert.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#define FILES_MAX 8
#define NAME_MAX_SIZE 256
#define SECTOR 512
#define REGIONS_MAX 64

struct change {
        struct change *next;
        bool is_truncate;
        size_t offset, size;
        uint8_t data[];
};

struct image {
        uint8_t *data;
        size_t size, room;
};

struct file {
        char name[NAME_MAX_SIZE];
        bool there, removed; /* removed: not yet for certain */
        struct image seen, safe;
        struct change *first, **end; /* made to seen, not yet to safe */
        void *regions[REGIONS_MAX];  /* shared memory */
};

struct handle {
        sqlite3_file base;
        struct file *file;
};

static struct file files[FILES_MAX], kept[FILES_MAX];
static enum disk_trouble trouble;
static unsigned countdown;
static bool struck;
static uint64_t state;

static uint32_t draw(uint32_t n) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return (uint32_t)(state >> 33) % n;
}

/* The disk's own memory: not by malloc(), which a test may let fail. */
static void *memory_new(size_t size) {
        void *memory = aligned_alloc(16, (size + 16) & ~(size_t)15);

        if (!memory)
                abort();
        return memory;
}

/* ---- images */

static void image_resize(struct image *image, size_t size) {
        if (size > image->room) {
                uint8_t *data = memory_new(2 * size);

                if (image->size > 0)
                        memcpy(data, image->data, image->size);
                free(image->data);
                image->data = data;
                image->room = 2 * size;
        }
        if (size > image->size)
                memset(image->data + image->size, 0, size - image->size);
        image->size = size;
}

static void image_write(struct image *image, size_t offset, const void *data, size_t size) {
        if (offset + size > image->size)
                image_resize(image, offset + size);
        memcpy(image->data + offset, data, size);
}

static void image_copy(struct image *to, const struct image *from) {
        image_resize(to, from->size);
        if (from->size > 0)
                memcpy(to->data, from->data, from->size);
}

static void image_apply(struct image *image, const struct change *change) {
        if (change->is_truncate)
                image_resize(image, change->size);
        else
                image_write(image, change->offset, change->data, change->size);
}

/* Some sectors of a write, counted from the start of the file, reached the disk. */
static void image_apply_torn(struct image *image, const struct change *change) {
        for (size_t done = 0, n; done < change->size; done += n) {
                n = SECTOR - (change->offset + done) % SECTOR;
                n = n < change->size - done ? n : change->size - done;
                if (draw(2))
                        image_write(image, change->offset + done, change->data + done, n);
        }
}

/* ---- files */

static void changes_drop(struct file *file) {
        while (file->first) {
                struct change *change = file->first;

                file->first = change->next;
                free(change);
        }
        file->end = &file->first;
}

static void change_add(struct file *file, bool is_truncate, size_t offset, const void *data, size_t size) {
        struct change *change = memory_new(sizeof(*change) + (is_truncate ? 0 : size));

        *change = (struct change){ .is_truncate = is_truncate, .offset = offset, .size = size };
        if (!is_truncate)
                memcpy(change->data, data, size);
        *file->end = change;
        file->end = &change->next;
        image_apply(&file->seen, change);
}

static void regions_drop(struct file *file) {
        for (size_t i = 0; i < REGIONS_MAX; i++) {
                free(file->regions[i]);
                file->regions[i] = NULL;
        }
}

static void file_clear(struct file *file) {
        changes_drop(file);
        regions_drop(file);
        free(file->seen.data);
        free(file->safe.data);
        *file = (struct file){};
        file->end = &file->first;
}

static struct file *file_find(const char *name) {
        for (size_t i = 0; i < FILES_MAX; i++)
                if (strcmp(files[i].name, name) == 0)
                        return &files[i];
        return NULL;
}

static struct file *file_make(const char *name) {
        struct file *file = file_find(name);

        if (!file)
                file = file_find("");
        assert(file && strlen(name) < NAME_MAX_SIZE);
        if (!file->there) { /* of one that was removed nothing comes back under a new one */
                file_clear(file);
                memcpy(file->name, name, strlen(name) + 1);
                file->there = true;
        }
        return file;
}

/* ---- trouble */

/* SQLITE_OK, or what this operation fails with. */
static int meet(int error, bool needs_room) {
        bool is_it;

        if (trouble == DISK_FINE)
                return SQLITE_OK;
        if (countdown > 1) {
                countdown--;
                return SQLITE_OK;
        }
        is_it = trouble == DISK_ERROR_ONCE ? countdown == 1 : trouble != DISK_FULL || needs_room;
        countdown = trouble == DISK_ERROR_ONCE ? 0 : 1;
        if (!is_it)
                return SQLITE_OK;
        struck = true;
        return trouble == DISK_FULL ? SQLITE_FULL : error;
}

static bool is_dead(void) {
        return trouble == DISK_CUT && struck;
}

void disk_arm(enum disk_trouble wanted, unsigned n) {
        trouble = wanted;
        countdown = n;
        struck = false;
}

bool disk_heal(void) {
        bool any = struck;

        trouble = DISK_FINE;
        struck = false;
        return any;
}

void disk_reset(uint64_t seed) {
        for (size_t i = 0; i < FILES_MAX; i++)
                file_clear(&files[i]);
        (void)disk_heal();
        state = seed;
}

static void file_reboot(struct file *file) {
        for (const struct change *change = file->first; change; change = change->next)
                switch (draw(5)) {
                case 0:
                case 1:
                        break;
                case 2:
                        if (!change->is_truncate) {
                                image_apply_torn(&file->safe, change);
                                break;
                        }
                        /* fall through */
                default:
                        image_apply(&file->safe, change);
                }
        changes_drop(file);
        regions_drop(file);
        image_copy(&file->seen, &file->safe);
        if (file->removed && draw(2))
                file->there = true;
        file->removed = false;
        if (!file->there)
                file_clear(file);
}

void disk_reboot(void) {
        (void)disk_heal();
        for (size_t i = 0; i < FILES_MAX; i++)
                if (files[i].name[0])
                        file_reboot(&files[i]);
}

static void copy_all(struct file *to, const struct file *from) {
        for (size_t i = 0; i < FILES_MAX; i++) {
                file_clear(&to[i]);
                if (!from[i].there)
                        continue;
                memcpy(to[i].name, from[i].name, NAME_MAX_SIZE);
                to[i].there = true;
                image_copy(&to[i].seen, &from[i].seen);
                image_copy(&to[i].safe, &from[i].seen);
        }
}

void disk_keep(void) {
        copy_all(kept, files);
}

void disk_return(uint64_t seed) {
        (void)disk_heal();
        copy_all(files, kept);
        state = seed;
}

/* ---- what SQLite calls: files */

static struct file *of(sqlite3_file *base) {
        return ((struct handle *)base)->file;
}

static int shim_close(sqlite3_file *base) {
        return SQLITE_OK;
}

static int shim_read(sqlite3_file *base, void *data, int size, sqlite3_int64 offset) {
        const struct image *image = &of(base)->seen;
        size_t at = (size_t)offset, n = (size_t)size;
        size_t there = at >= image->size ? 0 : image->size - at < n ? image->size - at : n;

        if (is_dead())
                return SQLITE_IOERR_READ;
        if (there > 0)
                memcpy(data, image->data + at, there);
        memset((uint8_t *)data + there, 0, n - there);
        return there == n ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static int shim_write(sqlite3_file *base, const void *data, int size, sqlite3_int64 offset) {
        struct file *file = of(base);
        int code = meet(SQLITE_IOERR_WRITE, true); /* some file systems need room to write over something, too */

        if (is_dead()) /* the operation that the cut fell into may have begun */
                size = code != SQLITE_OK && draw(2) ? size : 0;
        else if (code != SQLITE_OK)
                size = (int)draw((uint32_t)size + 1);
        if (size > 0)
                change_add(file, false, (size_t)offset, data, (size_t)size);
        return code;
}

static int shim_truncate(sqlite3_file *base, sqlite3_int64 size) {
        int code = meet(SQLITE_IOERR_TRUNCATE, false);

        if (code == SQLITE_OK)
                change_add(of(base), true, 0, NULL, (size_t)size);
        return code;
}

static int shim_sync(sqlite3_file *base, int flags) {
        struct file *file = of(base);
        int code = meet(SQLITE_IOERR_FSYNC, false);

        if (is_dead())
                return code;
        for (const struct change *change = file->first; change && code == SQLITE_OK; change = change->next)
                image_apply(&file->safe, change);
        changes_drop(file);
        return code;
}

static int shim_size(sqlite3_file *base, sqlite3_int64 *ret) {
        *ret = (sqlite3_int64)of(base)->seen.size;
        return is_dead() ? SQLITE_IOERR_FSTAT : SQLITE_OK;
}

static int shim_lock(sqlite3_file *base, int level) {
        return SQLITE_OK;
}

static int shim_check_lock(sqlite3_file *base, int *ret) {
        *ret = 0;
        return SQLITE_OK;
}

static int shim_control(sqlite3_file *base, int op, void *argument) {
        return SQLITE_NOTFOUND;
}

static int shim_sector(sqlite3_file *base) {
        return SECTOR;
}

static int shim_characteristics(sqlite3_file *base) {
        return SQLITE_IOCAP_POWERSAFE_OVERWRITE; /* as on a real disk: what a write does not name it does not harm */
}

static int shim_shm_map(sqlite3_file *base, int n, int size, int extend, void volatile **ret) {
        struct file *file = of(base);
        int code;

        assert(n < REGIONS_MAX);
        *ret = NULL;
        if (!file->regions[n] && extend) {
                code = meet(SQLITE_IOERR_SHMSIZE, true);
                if (code != SQLITE_OK)
                        return code;
                file->regions[n] = memory_new((size_t)size);
                memset(file->regions[n], 0, (size_t)size);
        }
        *ret = file->regions[n];
        return SQLITE_OK;
}

static int shim_shm_lock(sqlite3_file *base, int offset, int n, int flags) {
        return SQLITE_OK;
}

static void shim_shm_barrier(sqlite3_file *base) {
}

static int shim_shm_unmap(sqlite3_file *base, int forget) {
        regions_drop(of(base)); /* nobody else has it open */
        return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
        .iVersion = 2,
        .xClose = shim_close,
        .xRead = shim_read,
        .xWrite = shim_write,
        .xTruncate = shim_truncate,
        .xSync = shim_sync,
        .xFileSize = shim_size,
        .xLock = shim_lock,
        .xUnlock = shim_lock,
        .xCheckReservedLock = shim_check_lock,
        .xFileControl = shim_control,
        .xSectorSize = shim_sector,
        .xDeviceCharacteristics = shim_characteristics,
        .xShmMap = shim_shm_map,
        .xShmLock = shim_shm_lock,
        .xShmBarrier = shim_shm_barrier,
        .xShmUnmap = shim_shm_unmap,
};

/* ---- what SQLite calls: the disk */

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags, int *ret_flags) {
        struct file *file = name ? file_find(name) : NULL;

        base->pMethods = NULL;
        if (is_dead() || !name || ((!file || !file->there) && !(flags & SQLITE_OPEN_CREATE)))
                return SQLITE_CANTOPEN;
        ((struct handle *)base)->file = file_make(name);
        base->pMethods = &methods;
        if (ret_flags)
                *ret_flags = flags;
        return SQLITE_OK;
}

static int shim_delete(sqlite3_vfs *vfs, const char *name, int sync_directory) {
        struct file *file = file_find(name);
        int code;

        if (!file || !file->there)
                return SQLITE_IOERR_DELETE_NOENT;
        code = meet(SQLITE_IOERR_DELETE, false);
        if (code != SQLITE_OK)
                return code;
        file->there = false;
        file->removed = !sync_directory;
        return SQLITE_OK;
}

static int shim_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret) {
        const struct file *file = file_find(name);

        *ret = file && file->there && (flags != SQLITE_ACCESS_EXISTS || file->seen.size > 0);
        return is_dead() ? SQLITE_IOERR_ACCESS : SQLITE_OK;
}

static int shim_full_path(sqlite3_vfs *vfs, const char *name, int size, char *ret) {
        sqlite3_snprintf(size, ret, "%s", name);
        return SQLITE_OK;
}

static sqlite3_vfs shim;

void disk_register(void) {
        sqlite3_vfs *real = sqlite3_vfs_find(NULL);

        assert(real != &shim);
        shim = *real; /* time and randomness */
        shim.pNext = NULL;
        shim.zName = "shim";
        shim.szOsFile = sizeof(struct handle);
        shim.xOpen = shim_open;
        shim.xDelete = shim_delete;
        shim.xAccess = shim_access;
        shim.xFullPathname = shim_full_path;
        if (sqlite3_vfs_register(&shim, 1) != SQLITE_OK)
                abort();
        disk_reset(1);
}

void disk_unregister(void) {
        (void)sqlite3_vfs_unregister(&shim);
        disk_reset(1);
        for (size_t i = 0; i < FILES_MAX; i++)
                file_clear(&kept[i]);
}
