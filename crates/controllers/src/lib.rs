//! The control loops: one module a controller, a pure plan and a thin runner.
