
/* Read whole sequences, before the first step: what they decide is computed here, and kept until others are read. 0, -1 and -2 as below; -3 if
   there is nothing to read.
$whole_shapes */
int ${name}_read($name *model, int64_t length, $whole_arguments);
