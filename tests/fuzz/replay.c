/*
 * The main of a fuzz target that is built without libFuzzer: runs each file of the corpus, in order of names, and says
 * so in TAP. What goes wrong ends the process: the last file named is the one.
 *
 *     fuzz_TARGET [FOLDER-OR-FILE...]     without arguments: $ACED_SRCDIR/tests/fuzz/corpus/TARGET
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fuzz.h"

#define INPUT_SECONDS_MAX 60 /* under sanitizers, on a busy machine; what hangs is ended by SIGALRM */
#define PREFIX "fuzz_"

static void replay_file(const char *path) {
        _cleanup_(freep) uint8_t *data = NULL;
        FILE *file = fopen(path, "re");
        struct stat status;

        MUST(file);
        MUST(fstat(fileno(file), &status) == 0);
        data = malloc((size_t)status.st_size + (status.st_size == 0)); /* of its size: a sanitizer sees steps beyond */
        MUST(data);
        MUST(fread(data, 1, (size_t)status.st_size, file) == (size_t)status.st_size);
        fclose(file);
        printf("# %s\n", path);
        fflush(stdout);
        alarm(INPUT_SECONDS_MAX);
        (void)LLVMFuzzerTestOneInput(data, (size_t)status.st_size);
        alarm(0);
}

static unsigned replay(const char *path) {
        struct dirent **entries;
        unsigned n_files = 0;
        char file[4096];
        int n;

        n = scandir(path, &entries, NULL, alphasort);
        if (n < 0 && errno == ENOTDIR) {
                replay_file(path);
                return 1;
        }
        if (n < 0)
                printf("# %s: %m\n", path);
        for (int i = 0; i < n; i++) {
                if (entries[i]->d_name[0] != '.') {
                        snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
                        replay_file(file);
                        n_files++;
                }
                free(entries[i]);
        }
        if (n >= 0)
                free(entries);
        return n_files;
}

int main(int argc, char **argv) {
        const char *name = program_invocation_short_name, *root = getenv("ACED_SRCDIR");
        char folder[4096];
        unsigned n = 0;

        if (strncmp(name, PREFIX, strlen(PREFIX)) == 0)
                name += strlen(PREFIX);
        puts("1..1");
        snprintf(folder, sizeof(folder), "%s/tests/fuzz/corpus/%s", root ? root : ".", name);
        if (argc < 2)
                n = replay(folder);
        for (int i = 1; i < argc; i++)
                n += replay(argv[i]);
        printf("%sok 1 - %s: %u inputs replayed\n", n > 0 ? "" : "not ", name, n);
        return n > 0 ? 0 : 1;
}
