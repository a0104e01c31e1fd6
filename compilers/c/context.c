/* What a model is made of: where its constants begin in the file of weights; the numbers of each memory; of each register its group and the
   numbers of an entry, and where the entries that it begins with are in the file (-1: they are zeros); of each group the entries that are
   kept (0: all); of each value that whole sequences decide its numbers, and along how many axes there are so many for each entry. */
enum { CONSTANTS = $constants, MEMORIES = $memories, NUMBERS = $numbers, REGISTERS = $registers, GROUPS = $groups, WHOLES = $wholes, LEAST = 64 };
static const int64_t constant_at[] = {$constant_at};
static const int64_t memory_size[] = {$memory_size};
static const int64_t register_group[] = {$register_group};
static const int64_t register_size[] = {$register_size};
static const int64_t register_at[] = {$register_at};
static const int64_t group_size[] = {$group_size};
static const int64_t whole_numbers[] = {$whole_numbers};
static const int64_t whole_axes[] = {$whole_axes};
static const int64_t initial_at = $initial_at, file_size = $file_size;
static const char signature[] = "$signature";

/* Where a state has come to: steps of each row, and entries in the registers of each group. */
typedef struct {
    int64_t position[ROWS], used[GROUPS + 1];
} place_t;

struct $name {
    const char *file;
    int64_t rows, room[GROUPS + 1], scratch_size, length;
    place_t now, mark;
    int marked;
    REAL *state, *next, *remembered, *scratch, *registers[REGISTERS + 1], *wholes[WHOLES + 1];
    const REAL *constants[CONSTANTS + 1];
};

static void *numbers(int64_t count) { return aligned_alloc(64, (size_t)((count * (int64_t)sizeof(REAL) + 127) / 64 * 64)); }

static const char *mapped(const char *path) {
    int file = open(path, O_RDONLY);
    struct stat about;
    const char *found = NULL;
    if (file >= 0 && fstat(file, &about) == 0 && about.st_size == file_size) {
        void *at = mmap(NULL, (size_t)file_size, PROT_READ, MAP_PRIVATE, file, 0);
        found = at == MAP_FAILED ? NULL : at;
    }
    if (file >= 0) close(file);
    if (found && memcmp(found, signature, sizeof signature - 1) != 0) {
        munmap((void *)found, (size_t)file_size);
        found = NULL;
    }
    if (!found) fprintf(stderr, file < 0 ? "%s: cannot be opened\n" : "%s: not the weights of $name\n", path);
    return found;
}

/* Room for more entries in the registers of a group, which move to the front with those that are still read. */
static int grow($name *model, int64_t g) {
    int64_t used = model->now.used[g], size = group_size[g], from = size ? used - min64(used, size) : 0;
    if (model->marked) from = min64(from, size ? model->mark.used[g] - min64(model->mark.used[g], size) : 0);
    int64_t kept = used - from, room = kept < LEAST / 2 ? LEAST : 2 * kept;
    REAL *fresh[REGISTERS + 1] = {0};
    for (int64_t k = 0; k < REGISTERS; k++)
        if (register_group[k] == g && !(fresh[k] = numbers(model->rows * room * register_size[k]))) {
            while (k-- > 0) free(fresh[k]);
            return -2;
        }
    for (int64_t k = 0; k < REGISTERS; k++) {
        int64_t size_k = register_size[k];
        if (register_group[k] != g) continue;
        for (int64_t r = 0; r < model->rows && model->registers[k]; r++)
            memcpy(fresh[k] + r * room * size_k, model->registers[k] + (r * model->room[g] + from) * size_k, sizeof(REAL) * (size_t)(kept * size_k));
        free(model->registers[k]);
        model->registers[k] = fresh[k];
    }
    model->room[g] = room;
    model->now.used[g] = kept;
    model->mark.used[g] -= from;
    return 0;
}

void ${name}_start($name *model) {
    const REAL *initial = (const REAL *)(model->file + initial_at);
    REAL *to = model->state;
    model->marked = 0;
    memset(&model->now, 0, sizeof model->now);
    for (int64_t k = 0; k < MEMORIES; initial += memory_size[k++])
        for (int64_t r = 0; r < model->rows; r++, to += memory_size[k]) memcpy(to, initial, sizeof(REAL) * (size_t)memory_size[k]);
    for (int64_t k = 0; k < REGISTERS; k++) {
        int64_t g = register_group[k], count = group_size[g] * register_size[k];
        model->now.used[g] = group_size[g];
        for (int64_t r = 0; r < model->rows; r++) {
            REAL *row = model->registers[k] + r * model->room[g] * register_size[k];
            if (register_at[k] < 0) memset(row, 0, sizeof(REAL) * (size_t)count);
            else memcpy(row, model->file + register_at[k], sizeof(REAL) * (size_t)count);
        }
    }
}

$name *${name}_load(const char *weights, int rows) {
    if (rows < 1 || rows > ROWS) {
        fprintf(stderr, "$name: from 1 to %d sequences, not %d\n", ROWS, rows);
        return NULL;
    }
    $name *model = calloc(1, sizeof *model);
    if (!model || !(model->file = mapped(weights))) {
        free(model);
        return NULL;
    }
    model->rows = rows;
    for (int64_t k = 0; k < CONSTANTS; k++) model->constants[k] = (const REAL *)(model->file + constant_at[k]);
    model->state = numbers(NUMBERS * rows);
    model->next = numbers(NUMBERS * rows);
    int failed = !model->state || !model->next;
    for (int64_t g = 0; g < GROUPS && !failed; g++) {
        model->now.used[g] = 0;
        failed = grow(model, g);
        while (!failed && model->room[g] <= group_size[g]) {
            model->now.used[g] = model->room[g];
            failed = grow(model, g);
        }
    }
    if (failed) {
        ${name}_free(model);
        fprintf(stderr, "$name: no memory\n");
        return NULL;
    }
    ${name}_start(model);
    return model;
}

void ${name}_free($name *model) {
    if (!model) return;
    for (int64_t k = 0; k < REGISTERS; k++) free(model->registers[k]);
    for (int64_t k = 0; k < WHOLES; k++) free(model->wholes[k]);
    free(model->state), free(model->next), free(model->remembered), free(model->scratch);
    if (model->file) munmap((void *)model->file, (size_t)file_size);
    free(model);
}

static int64_t whole_size(const $name *model, int64_t k, int64_t length) {
    int64_t size = model->rows * whole_numbers[k];
    for (int64_t axis = 0; axis < whole_axes[k]; axis++) size *= length;
    return size;
}

/* Buffers for what whole sequences of a length decide. 0, or -2 if there is no memory. */
static int whole_buffers(const $name *model, int64_t length, REAL **fresh) {
    for (int64_t k = 0; k < WHOLES; k++)
        if (!(fresh[k] = numbers(whole_size(model, k, length)))) {
            while (k-- > 0) free(fresh[k]);
            return -2;
        }
    return 0;
}

static void take_wholes($name *model, int64_t length, REAL **fresh) {
    for (int64_t k = 0; k < WHOLES; k++) {
        free(model->wholes[k]);
        model->wholes[k] = fresh[k];
    }
    model->length = length;
}

$decided
int ${name}_step($name *model, $arguments) {
$unread    for (int64_t g = 0; g < GROUPS; g++)
        if (model->now.used[g] >= model->room[g] && grow(model, g)) return -2;
    const int64_t B = model->rows, threads = MOST_THREADS, room = $growing, length = model->length;
    const int64_t most = $team, size = ROWS * ($shared + most * ($own)) + 16;
    (void)room, (void)threads, (void)length;
    if (size > model->scratch_size) {
        free(model->scratch);
        model->scratch = numbers(size);
        model->scratch_size = model->scratch ? size : 0;
        if (!model->scratch) return -2;
    }
    int64_t arrived = 0;
    REAL *scratch = model->scratch;
    step_t step = {B, model->now.position, model->now.used, model->room, length, 0};
#pragma omp parallel num_threads((int)most) if (most > 1)
    {
        member_t member = {THREAD, THREADS, 0, &arrived};
        $root(&step, &member, model->constants, model->state, model->next, (REAL *const *)model->registers, (REAL *const *)model->wholes, scratch, scratch + ROWS * ($shared + member.rank * ($own)), $given);
    }
    if (step.fault) return -1;
    REAL *before = model->state;
    model->state = model->next;
    model->next = before;
    for (int64_t r = 0; r < B; r++) model->now.position[r]++;
    for (int64_t g = 0; g < GROUPS; g++) model->now.used[g]++;
    return 0;
}

int ${name}_prefill($name *model, int64_t steps, $arguments) {
    const int64_t rows = model->rows;
    int failed = 0;
$buffers
    for (int64_t t = 0; t < steps && !failed; t++) {
$gathered
        failed = ${name}_step(model, $passed);
    }
    return failed;
}

static int64_t register_numbers(const $name *model, int64_t k) { return model->rows * model->room[register_group[k]] * register_size[k]; }

size_t ${name}_state_size(const $name *model) {
    int64_t count = NUMBERS * model->rows;
    for (int64_t k = 0; k < REGISTERS; k++) count += register_numbers(model, k);
    for (int64_t k = 0; k < WHOLES && model->length; k++) count += whole_size(model, k, model->length);
    return sizeof(place_t) + sizeof(REAL) * (size_t)count;
}

int ${name}_copy($name *to, const $name *from) {
    REAL *fresh[REGISTERS + 1] = {0}, *wholes[WHOLES + 1] = {0};
    if (to == from) return 0;
    if (from->length && whole_buffers(from, from->length, wholes)) return -2;
    for (int64_t k = 0; k < REGISTERS; k++)
        if (!(fresh[k] = numbers(register_numbers(from, k)))) {
            while (k-- > 0) free(fresh[k]);
            for (k = 0; k < WHOLES; k++) free(wholes[k]);
            return -2;
        }
    for (int64_t k = 0; k < WHOLES && from->length; k++) memcpy(wholes[k], from->wholes[k], sizeof(REAL) * (size_t)whole_size(from, k, from->length));
    take_wholes(to, from->length, wholes);
    for (int64_t k = 0; k < REGISTERS; k++) {
        memcpy(fresh[k], from->registers[k], sizeof(REAL) * (size_t)register_numbers(from, k));
        free(to->registers[k]);
        to->registers[k] = fresh[k];
    }
    memcpy(to->room, from->room, sizeof to->room);
    memcpy(to->state, from->state, sizeof(REAL) * (size_t)(NUMBERS * from->rows));
    to->now = from->now;
    to->marked = 0;
    return 0;
}

int ${name}_mark($name *model) {
    if (!model->remembered && !(model->remembered = numbers(NUMBERS * model->rows))) return -2;
    memcpy(model->remembered, model->state, sizeof(REAL) * (size_t)(NUMBERS * model->rows));
    model->mark = model->now;
    model->marked = 1;
    return 0;
}

void ${name}_rollback($name *model) {
    if (!model->marked) return;
    memcpy(model->state, model->remembered, sizeof(REAL) * (size_t)(NUMBERS * model->rows));
    model->now = model->mark;
}
