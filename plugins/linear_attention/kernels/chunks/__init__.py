"""The algebra of `chunked` and `rank_one`, which see, on a GPU: kernels of Triton.

In a chunk of steps, rows (queries) meet columns (keys), and each column brings values. There are one or two sorts of both: q meets k with its v,
and where the transition has rank one, b meets too, and a brings what b has met, z. What is read, y, is that of q; z is that of b. Backward
each row brings a gradient: q that of y, b that of z.

Forward: `states` walks over the chunks and writes the memory before each. Where there is z, `pairs_by_head` or `pairs_by_key` first write what
rows and columns of a chunk see of each other, `solve` the solution of its triangular system, and `walk` goes in the place of `states`. `outputs`
reads all of it. Backward: `ends` or `walk_back` walk the other way, with the gradient of the memory after each chunk; `weights` are the
gradients of the pairs; `outer_grads` are those by way of the memories, `inner_grads_by_head` and `inner_grads_by_key` add those inside a chunk,
and `value_grads` are those of v.

Gates are only ever added, as in `chunked`, and what they share of the gradient is only ever added too: that of a gate is a sum over all pairs
of an earlier column and a later row, none of which is taken off again. With a gate per key a chunk is cut into blocks of SUB steps: a
pair in two blocks meets by way of the start of the later one, in products of matrices; a pair in one block is computed by itself.

What is not finite reaches all later steps up to the next at which nothing of the memory stays, and no other: it is left out of all products, and
marked at the end. Backward it is only left out.

Shapes: rows [R,B,T,G,K]; columns [S,B,T,G,K]; values [S,B,T,H,V]; gradients of what rows read [R,B,T,H,V]; all contiguous; g [B,T,H,GK] with
strides of its own, where GK is K or one for all keys of a head; memories [B*H,N,K,V]; pairs [B*H,N,R,S,C,C]. SHIFT is 1 where q reads before
its step's input has entered, as b always does. DATA is the type that matrices are multiplied in, REAL that of sums. BK, BV, BG, WK, WV are
how many of K, V and GK a tile has; KB, VB, WB how many tiles there are.
"""
