int ${name}_read($name *model, int64_t length, $whole_arguments) {
    const int64_t B = model->rows, threads = MOST_THREADS;
    const int64_t most = $whole_team;
    REAL *fresh[WHOLES + 1] = {0};
    (void)threads;
    if (length < 1) return -3;
    REAL *scratch = numbers(ROWS * ($whole_shared + most * ($whole_own)) + 16);
    if (!scratch || whole_buffers(model, length, fresh)) return free(scratch), -2;
    int64_t arrived = 0;
    step_t step = {B, NULL, NULL, NULL, length, 0};
#pragma omp parallel num_threads((int)most) if (most > 1)
    {
        member_t member = {THREAD, THREADS, 0, &arrived};
        $whole_root(&step, &member, model->constants, NULL, NULL, NULL, fresh, scratch, scratch + ROWS * ($whole_shared + member.rank * ($whole_own)), $whole_given);
    }
    free(scratch);
    if (step.fault) {
        for (int64_t k = 0; k < WHOLES; k++) free(fresh[k]);
        return -1;
    }
    take_wholes(model, length, fresh);
    return 0;
}
