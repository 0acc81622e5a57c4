/* A libnvidia-ml.so.1 with two pretended GPUs, for the real pynvml to load.
 *
 * What it answers stands in the file named by STUB_NVML, read anew at every call, a line each:
 *     driver absent            as if the driver were not loaded, or had just been unloaded
 *     used GPU BYTES           memory in use (0 unless told)
 *     process GPU PID BYTES    a process in the list; -1 bytes is NVML's "not available"
 *     mig GPU 1                MIG mode is on, with two MIG devices of 2 GB of which the second is gone
 *     odd GPU 1                every reading of that GPU is one that cannot be, and its names are no UTF-8
 *     hang FUNCTION            that function does not return for as long as this line is there
 *     fail FUNCTION GPU CODE   that function returns CODE for that GPU; "*" means any function, -1 any GPU
 * Compiled with -DOLD_DRIVER it lacks the third version of the process list, as drivers before 510 do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS, UNINITIALIZED, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, NUM_GPUS = 2 };

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process_t;

static int initialised = 0;
static int gpus[NUM_GPUS] = {0, 1};
static int migs[NUM_GPUS] = {0, 1};

static int is_mig(const int *device) { return device >= migs && device < migs + NUM_GPUS; }

static FILE *told(void) {
    FILE *file = fopen(getenv("STUB_NVML"), "r");
    if (!file) { perror("STUB_NVML"); abort(); }
    return file;
}

static int driver_absent(void) {
    char line[256];
    int absent = 0;
    FILE *file = told();
    while (fgets(line, sizeof line, file)) absent |= !strncmp(line, "driver absent", 13);
    fclose(file);
    if (absent) initialised = 0;
    return absent;
}

static int hangs(const char *function) {
    char line[256], name[128];
    int found = 0;
    FILE *file = told();
    while (fgets(line, sizeof line, file)) found |= sscanf(line, "hang %127s", name) == 1 && !strcmp(name, function);
    fclose(file);
    return found;
}

/* The code that this call is to return before it does anything. */
static int failure(const char *function, int gpu) {
    char line[256], name[128];
    int on, code, found = SUCCESS;
    while (hangs(function)) usleep(10000);
    if (driver_absent() || !initialised) return UNINITIALIZED;
    FILE *file = told();
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "fail %127s %d %d", name, &on, &code) == 3)
            if ((!strcmp(name, function) || !strcmp(name, "*")) && (on == gpu || on == -1)) found = code;
    fclose(file);
    return found;
}

static long long number(const char *format, int gpu) {
    char line[256];
    int on;
    long long value, found = 0;
    FILE *file = told();
    while (fgets(line, sizeof line, file))
        if (sscanf(line, format, &on, &value) == 2 && on == gpu) found = value;
    fclose(file);
    return found;
}

static int odd(const int *device) { return (int)number("odd %d %lld", *device); }

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (driver_absent()) return DRIVER_NOT_LOADED;
    initialised = 1;
    int code = failure("nvmlInitWithFlags", -1);
    if (code) initialised = 0;
    return code;
}

int nvmlShutdown(void) {
    int code = failure("nvmlShutdown", -1);
    initialised = 0;
    return code;
}

const char *nvmlErrorString(int code) { return code == 999 ? "Unknown Error" : "an error of the stub"; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = NUM_GPUS;
    return failure("nvmlDeviceGetCount_v2", -1);
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, int **device) {
    *device = &gpus[index];
    return failure("nvmlDeviceGetHandleByIndex_v2", (int)index);
}

int nvmlDeviceGetName(int *device, char *name, unsigned length) {
    snprintf(name, length, odd(device) ? "\xff\xfe%c" : "Pretended GPU %c", 'A' + *device);
    return failure("nvmlDeviceGetName", *device);
}

int nvmlDeviceGetUUID(int *device, char *uuid, unsigned length) {
    if (odd(device)) snprintf(uuid, length, "\xff");
    else if (is_mig(device)) snprintf(uuid, length, "MIG-%d", (int)(device - migs));
    else snprintf(uuid, length, "GPU-%c%c", 'a' + *device, 'a' + *device);
    return failure("nvmlDeviceGetUUID", *device);
}

int nvmlDeviceGetMaxMigDeviceCount(int *device, unsigned *count) {
    *count = 2;
    return failure("nvmlDeviceGetMaxMigDeviceCount", *device);
}

int nvmlDeviceGetMigDeviceHandleByIndex(int *device, unsigned index, int **mig) {
    *mig = &migs[*device];
    return index ? NOT_FOUND : failure("nvmlDeviceGetMigDeviceHandleByIndex", *device);
}

int nvmlDeviceGetMemoryInfo(int *device, memory_t *memory) {
    if (is_mig(device)) {
        memory->total = 2000000000ULL;
        memory->used = 500;
        memory->free = memory->total - memory->used;
        return SUCCESS;
    }
    memory->total = 8000000000ULL;
    memory->used = (unsigned long long)number("used %d %lld", *device);
    if (odd(device)) memory->total = memory->used = ~0ULL;
    memory->free = memory->total - memory->used;
    return failure("nvmlDeviceGetMemoryInfo", *device);
}

int nvmlDeviceGetUtilizationRates(int *device, utilization_t *rates) {
    rates->gpu = odd(device) ? ~0u : 87;
    rates->memory = 3;
    return failure("nvmlDeviceGetUtilizationRates", *device);
}

int nvmlDeviceGetTemperature(int *device, int sensor, unsigned *celsius) {
    *celsius = odd(device) ? ~0u : 61u + (unsigned)sensor; /* sensor 0 is the GPU */
    return failure("nvmlDeviceGetTemperature", *device);
}

int nvmlDeviceGetPowerUsage(int *device, unsigned *milliwatts) {
    *milliwatts = odd(device) ? ~0u : 250500;
    return failure("nvmlDeviceGetPowerUsage", *device);
}

int nvmlDeviceGetMigMode(int *device, unsigned *current, unsigned *pending) {
    *current = *pending = (unsigned)number("mig %d %lld", *device);
    return *current ? failure("nvmlDeviceGetMigMode", *device) : NOT_SUPPORTED;
}

static int processes(int *device, unsigned *room, process_t *list) {
    char line[256];
    int on, pid, code = failure("nvmlDeviceGetComputeRunningProcesses", *device);
    long long used;
    unsigned count = 0;
    if (code) return code;
    FILE *file = told();
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "process %d %d %lld", &on, &pid, &used) == 3 && on == *device) {
            if (count < *room) list[count] = (process_t){(unsigned)pid, (unsigned long long)used, ~0u, ~0u};
            count++;
        }
    fclose(file);
    code = count > *room ? INSUFFICIENT_SIZE : SUCCESS;
    *room = count;
    return code;
}

#ifdef OLD_DRIVER
int nvmlDeviceGetComputeRunningProcesses_v2(int *d, unsigned *n, process_t *list) { return processes(d, n, list); }
#else
int nvmlDeviceGetComputeRunningProcesses_v3(int *d, unsigned *n, process_t *list) { return processes(d, n, list); }
#endif
