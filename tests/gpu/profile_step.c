// Writes every kernel, copy, fill and wait of a CUDA program as a line `kind,start,end,bytes,name` (nanoseconds) to the file named in
// PROFILE_OUT, through CUPTI's activity records; name the built library in CUDA_INJECTION64_PATH. See README.md.
#include <cupti.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUFFER = 8 << 20 };
static FILE *out;

static void line(const char *kind, uint64_t start, uint64_t end, uint64_t bytes, const char *name) {
    fprintf(out, "%s,%llu,%llu,%llu,%s\n", kind, (unsigned long long)start, (unsigned long long)end, (unsigned long long)bytes, name);
}

static void CUPTIAPI requested(uint8_t **buffer, size_t *size, size_t *most_records) {
    *buffer = aligned_alloc(8, BUFFER);
    *size = *buffer ? BUFFER : 0;
    *most_records = 0;
}

static void CUPTIAPI completed(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size, size_t valid) {
    (void)stream;
    CUpti_Activity *record = NULL;
    while (out && cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
        switch (record->kind) {
        case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
            const CUpti_ActivityKernel10 *r = (const void *)record;
            line("kernel", r->start, r->end, 0, r->name);
            break;
        }
        case CUPTI_ACTIVITY_KIND_MEMCPY: {
            const CUpti_ActivityMemcpy6 *r = (const void *)record;
            static const char *const names[] = {"copy", "copy to device", "copy to host"};
            const char *name = names[r->copyKind < 3 ? r->copyKind : 0];
            line("copy", r->start, r->end, r->bytes, r->copyKind == CUPTI_ACTIVITY_MEMCPY_KIND_DTOD ? "copy on device" : name);
            break;
        }
        case CUPTI_ACTIVITY_KIND_MEMSET: {
            const CUpti_ActivityMemset4 *r = (const void *)record;
            line("fill", r->start, r->end, r->bytes, "fill");
            break;
        }
        case CUPTI_ACTIVITY_KIND_SYNCHRONIZATION: {
            const CUpti_ActivitySynchronization2 *r = (const void *)record;
            static const char *const names[] = {"unknown", "event", "stream waits for event", "stream", "context"};
            line("wait", r->start, r->end, 0, names[(unsigned)r->type < 5 ? r->type : 0]);
            break;
        }
        default: break;
        }
    }
    size_t dropped = 0;
    if (cuptiActivityGetNumDroppedRecords(context, stream, &dropped) == CUPTI_SUCCESS && dropped) fprintf(stderr, "profile_step: %zu records lost\n", dropped);
    free(buffer);
    (void)size;
}

static void finish(void) {
    cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    FILE *file = out;
    out = NULL;
    if (file) fclose(file);
}

// CUDA calls this when it is initialised.
int InitializeInjection(void) {
    const char *path = getenv("PROFILE_OUT");
    out = path ? fopen(path, "w") : NULL;
    if (!out) {
        fprintf(stderr, "profile_step: PROFILE_OUT names no file that can be written\n");
        return 0;
    }
    const CUpti_ActivityKind kinds[] = {
        CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET, CUPTI_ACTIVITY_KIND_SYNCHRONIZATION};
    CUptiResult result = cuptiActivityRegisterCallbacks(requested, completed);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && result == CUPTI_SUCCESS; i++) result = cuptiActivityEnable(kinds[i]);
    if (result != CUPTI_SUCCESS) fprintf(stderr, "profile_step: CUPTI answers %d\n", (int)result);
    atexit(finish);
    return 1;
}
