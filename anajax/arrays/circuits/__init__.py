"""Circuits: currents and voltages of crossbar arrays whose wires have resistance, solved exactly."""
