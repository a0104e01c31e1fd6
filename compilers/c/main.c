#ifdef MAIN
#include <time.h>
$lines
static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* A file of that name in the folder that the program was called in. */
static char *beside(const char *program, const char *name) {
    const char *last = strrchr(program, '/');
    size_t length = last ? (size_t)(last - program) + 1 : 0;
    char *path = malloc(length + strlen(name) + 1);
    if (path) {
        memcpy(path, program, length);
        strcpy(path + length, name);
    }
    return path;
}

static const char *help =
    "usage: $name [-w FILE] [-n COUNT] [-p] < numbers\n"
$whole_reads    "Reads the inputs of one step after another, as numbers between blanks: $reads.\n"
    "Writes the outputs of each step as a line: $writes.\n"
    "  -w FILE   the weights ($name.weights, beside the program)\n"
    "  -n COUNT  write no outputs; after the input go on by that many tokens, each the likeliest, and write them\n"
    "  -p        write no outputs; tell the perplexity of the input, and the speed, on stderr\n";

int main(int count, char **given) {
    const char *weights = NULL;
    long more = -1;
    int perplexity = 0;
    for (int i = 1; i < count; i++) {
        if (!strcmp(given[i], "-w") && i + 1 < count) weights = given[++i];
        else if (!strcmp(given[i], "-n") && i + 1 < count) more = atol(given[++i]);
        else if (!strcmp(given[i], "-p")) perplexity = 1;
        else return fputs(help, stderr), 2;
    }
    const int64_t sizes[] = {$output_sizes};
    const int tokens = $tokens;
    if ((more >= 0 || perplexity) && !tokens) return fputs("$name: -n and -p are for models from tokens to logits\n", stderr), 2;
    char *own = weights ? NULL : beside(given[0], "$name.weights");
    if (!weights && !own) return fputs("$name: no memory\n", stderr), 1;
    $name *model = ${name}_load(weights ? weights : own, 1);
    free(own);
    if (!model) return 1;
$whole_read
$locals
    if (!($allocated)) return fputs("$name: no memory\n", stderr), 1;
    double loss = 0, begun = seconds();
    int64_t steps = 0, likeliest = 0;
    for (;;) {
        int ended = 0;
$read
        if (ended) break;
        if (perplexity && steps) {
            const REAL *y = out0;
            double top = y[0], sum = 0;
            int64_t token = $token;
            for (int64_t i = 0; i < sizes[0]; i++) top = y[i] > top ? y[i] : top;
            for (int64_t i = 0; i < sizes[0]; i++) sum += exp(y[i] - top);
            if (token >= 0 && token < sizes[0]) loss += log(sum) + top - y[token];
        }
        int failed = ${name}_step(model, $call);
        if (failed) return fprintf(stderr, "$name: step %lld: %s\n", (long long)steps, failed == -1 ? "a token that is not in its table" : "no memory"), 1;
        steps++;
        if (more < 0 && !perplexity) {
$write
            putchar('\n');
        }
    }
    for (; more > 0 && steps; more--) {
        for (int64_t i = 0; i < sizes[0]; i++) likeliest = i == 0 || out0[i] > out0[likeliest] ? i : likeliest;
        printf("%lld\n", (long long)likeliest);
        $feed
        if (${name}_step(model, $call)) break;
        steps++;
    }
    double took = seconds() - begun;
    if (perplexity && steps > 1) fprintf(stderr, "perplexity %.4f, %.1f steps a second\n", exp(loss / (double)(steps - 1)), (double)steps / took);
$freed
    ${name}_free(model);
    return ferror(stdout) ? 1 : 0;
}
#endif
