// The few numbers that change from step to step. They live in a buffer, so nothing recorded depends on them.
//   position  tokens cached before this step (P)
//   count     valid rows of this step (<= T); the rest is padding and writes nothing
//   picked    tokens chosen so far on the device
layout(std430, binding = STEP_BINDING) readonly buffer Step {
    uint position;
    uint count;
    uint picked;
    uint reserved;
} stepParams;
